//! `samovar config`: each setting, its value and where it came from.

use std::process::ExitCode;

use super::exit_codes::CLEAN;
use super::printing::{one_line, say};
use crate::settings::{SettingRow, Settings};

/// Print the table.
pub(crate) fn config(settings: &Settings) -> ExitCode {
    say(&table(&settings.rows).join("\n"), CLEAN)
}

/// Three columns, as wide as they must be.
fn table(rows: &[SettingRow]) -> Vec<String> {
    let shown = |row: &SettingRow| if row.value.is_empty() { "-".to_owned() } else { one_line(&row.value) };
    let key_width = rows.iter().map(|row| row.key.len()).max().unwrap_or(0);
    let value_width = rows.iter().map(|row| shown(row).chars().count()).max().unwrap_or(0);
    rows.iter()
        .map(|row| format!("{:key_width$}  {:value_width$}  {}", row.key, shown(row), row.source))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Source;

    #[test]
    fn each_line_has_key_value_and_source() {
        let row = |key, value: &str, source| SettingRow { key, value: value.to_owned(), source };
        let rows = [row("port", "1", Source::Flag), row("model", "", Source::Default)];
        assert_eq!(table(&rows), ["port   1  flag", "model  -  default"]);
    }
}
