//! Settings as a table: what is given, what comes out, or the line that says why not.

use super::*;

/// Resolve from texts, and say what came out as `key=value (source)` or the error's line.
fn check(flags: &[(&'static str, &str)], environment: &[(&str, &str)], file: &str, key: &str) -> String {
    let folders = Folders::under(Path::new("/data"));
    let mut given = Flags::default();
    for (name, value) in flags {
        given.values.entry(name).or_default().push((*value).to_owned());
    }
    let environment = environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let file = match parse_file(&folders.settings_file, file) {
        Ok(file) => Some(file),
        Err(error) => return error.to_string(),
    };
    match Settings::resolve(Layers { flags: given, environment, file, folders, has_keys: false }) {
        Ok(settings) => {
            let row = settings.rows.iter().find(|row| row.key == key).unwrap();
            format!("{} ({})", row.value, row.source)
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default() {
    let env = [("SAMOVAR_PORT", "2")];
    let file = "port = 3";
    assert_eq!(check(&[("port", "1")], &env, file, "port"), "1 (flag)");
    assert_eq!(check(&[], &env, file, "port"), "2 (SAMOVAR_PORT)");
    assert_eq!(check(&[], &[], file, "port"), "3 (/data/settings.toml)");
    assert_eq!(check(&[], &[], "", "port"), "8642 (default)");
}

#[test]
fn an_empty_variable_is_not_set() {
    assert_eq!(check(&[], &[("SAMOVAR_PORT", "")], "", "port"), "8642 (default)");
}

#[test]
fn what_is_wrong_is_named_with_its_key_and_its_place() {
    for (file, line) in [
        ("kv_pol = 1", "settings file /data/settings.toml: unknown key `kv_pol` (did you mean `kv_pool`?)"),
        ("colour = 1", "settings file /data/settings.toml: unknown key `colour`"),
        ("data_dir = '/x'", "settings file /data/settings.toml: unknown key `data_dir`"),
        (
            "port = 99999",
            "settings file /data/settings.toml: key `port`: `99999`: a port from 0 to 65535 is wanted",
        ),
        (
            "port = true",
            "settings file /data/settings.toml: key `port`: `true`: a string or number is wanted",
        ),
        (
            "allow_host = [1]",
            "settings file /data/settings.toml: key `allow_host`: `[1]`: a list of strings is wanted",
        ),
        (
            "kv_dtype = 'q5'",
            "settings file /data/settings.toml: key `kv_dtype`: `q5`: f16, q8 or q4 is wanted",
        ),
        (
            "precision = 'exact'",
            "settings file /data/settings.toml: key `precision`: `exact`: fast or full is wanted",
        ),
        (
            "device = 'gpu'",
            "settings file /data/settings.toml: key `device`: `gpu`: auto, cpu or metal is wanted",
        ),
    ] {
        assert_eq!(check(&[], &[], file, "port"), line, "{file}");
    }
    assert_eq!(
        check(&[("prefill_chunk", "0")], &[], "", "port"),
        "--prefill-chunk: `0`: a whole number from 1 to 8192 is wanted"
    );
    assert_eq!(
        check(&[], &[("SAMOVAR_QUEUE_TIMEOUT", "soon")], "", "port"),
        "environment variable SAMOVAR_QUEUE_TIMEOUT: `soon`: seconds, or a time such as 500ms or 2m, are wanted"
    );
}

#[test]
fn a_file_that_is_no_toml_is_one_line_with_the_line_number() {
    let line = check(&[], &[], "port = 1\nhost = \n", "port");
    assert!(line.starts_with("settings file /data/settings.toml: line 2: "), "{line}");
    assert!(!line.contains('\n'), "{line}");
}

#[test]
fn only_a_bad_flag_is_a_usage_error() {
    let bad =
        |from| SettingsError::BadValue { key: "port", from, value: String::new(), cause: String::new() };
    assert!(bad(Source::Flag).is_usage());
    assert!(!bad(Source::Environment("SAMOVAR_PORT".to_owned())).is_usage());
    assert!(!bad(Source::File(PathBuf::from("x"))).is_usage());
}

#[test]
fn an_address_that_others_can_reach_needs_a_key() {
    let refused = "--host: `0.0.0.0`: an address that others can reach needs a key: `samovar keys add` one first, or set api_key_file";
    assert_eq!(check(&[("host", "0.0.0.0")], &[], "", "host"), refused);
    assert_eq!(check(&[("host", "0.0.0.0"), ("api_key_file", "/k")], &[], "", "host"), "0.0.0.0 (flag)");
    assert_eq!(check(&[("host", "localhost")], &[], "", "host"), "localhost (flag)");
}

#[test]
fn lists_come_from_repeated_flags_commas_and_arrays() {
    assert_eq!(check(&[("allow_host", "a"), ("allow_host", "b")], &[], "", "allow_host"), "a, b (flag)");
    assert_eq!(
        check(&[], &[("SAMOVAR_ALLOW_HOST", "a,b")], "", "allow_host"),
        "a,b (SAMOVAR_ALLOW_HOST)".replace(',', ", ")
    );
    assert_eq!(check(&[], &[], "allow_host = ['a', 'b']", "allow_host"), "a, b (/data/settings.toml)");
}

#[test]
fn sizes_are_binary_and_bounded() {
    for (text, size) in [
        ("1", 1),
        ("2G", 2 << 30),
        ("512MiB", 512 << 20),
        ("1.5 kb", 1536),
        ("3t", 3 << 40),
        ("2 GB", 2 << 30),
        (".5k", 512),
        ("7b", 7),
    ] {
        assert_eq!(values::bytes(text), Ok(size), "{text}");
    }
    for text in ["", "0", "G", "-1", "2 X", "1e9", "99999999999T", "99999999999999999999"] {
        assert!(values::bytes(text).is_err(), "{text}");
    }
}

#[test]
fn times_are_seconds_unless_they_say_otherwise() {
    for (text, time) in [
        ("30", 30_000),
        ("0", 0),
        ("250ms", 250),
        ("2m", 120_000),
        ("0.5", 500),
        ("24h", 86_400_000),
        (".5", 500),
        ("1.5 min", 90_000),
        ("86400 s", 86_400_000),
    ] {
        assert_eq!(values::duration(text), Ok(Duration::from_millis(time)), "{text}");
    }
    for text in ["", "s", "-1", "25h", "1d", "NaN", "inf"] {
        assert!(values::duration(text).is_err(), "{text}");
    }
}

#[test]
fn every_key_has_a_default_that_its_own_parser_takes() {
    let folders = Folders::under(Path::new("/data"));
    let layers = Layers {
        flags: Flags::default(),
        environment: BTreeMap::new(),
        file: None,
        folders,
        has_keys: false,
    };
    let rows = Settings::resolve(layers).unwrap().rows;
    let listed: Vec<_> = rows.iter().map(|row| row.key).collect();
    let known: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(listed, known);
}

#[test]
fn sampling_is_left_to_the_model_unless_somebody_sets_it() {
    let sampling = |file: &str| {
        let folders = Folders::under(Path::new("/data"));
        let file = parse_file(&folders.settings_file, file).ok();
        let layers =
            Layers { flags: Flags::default(), environment: BTreeMap::new(), file, folders, has_keys: false };
        Settings::resolve(layers).unwrap().sampling
    };
    assert_eq!(sampling(""), engine::SamplingChoices::default());
    assert_eq!(sampling("temperature = 'auto'"), engine::SamplingChoices::default());
    let set = engine::SamplingChoices {
        temperature: Some(0.5),
        top_k: Some(0),
        repetition_penalty: Some(1.5),
        ..engine::SamplingChoices::default()
    };
    assert_eq!(sampling("temperature = 0.5\ntop_k = 0\nrepetition_penalty = 1.5"), set);
    assert_eq!(check(&[], &[], "", "temperature"), "auto (default)");
    assert_eq!(
        check(&[("top_k", "-1")], &[], "", "port"),
        "--top-k: `-1`: auto, or a whole number from 0 to 100000 is wanted"
    );
    assert_eq!(
        check(&[("temperature", "3")], &[], "", "port"),
        "--temperature: `3`: auto, or a number from 0 to 2 is wanted"
    );
}

#[test]
fn a_relative_key_file_of_the_settings_file_lies_beside_it() {
    let folders = Folders::under(Path::new("/data"));
    let file = parse_file(&folders.settings_file, "api_key_file = 'key'").ok();
    let layers =
        Layers { flags: Flags::default(), environment: BTreeMap::new(), file, folders, has_keys: false };
    assert_eq!(Settings::resolve(layers).unwrap().api_key_file, Some(PathBuf::from("/data/key")));
}
