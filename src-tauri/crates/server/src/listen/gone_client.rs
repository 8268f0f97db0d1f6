//! Whether a client that sends nothing more is gone, or only waits for its answer.
//!
//! Both look the same from here: the connection's other side has said that it has ended. A client on this machine has
//! a socket that the system's tables show, and that belongs to a process as long as somebody waits. Of others the
//! system's own probes tell, which break the connection once nobody answers them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

/// How long the system waits for a sign of life before it probes, and between two probes.
const PROBE: Duration = Duration::from_secs(15);

/// Probes without an answer that break a connection.
const N_PROBES: u32 = 3;

/// Let the system look now and then whether the other side is there.
pub(crate) fn probe(stream: &TcpStream) {
    use rustix::net::sockopt;

    // Where the system refuses, the first write tells.
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, PROBE);
    let _ = sockopt::set_tcp_keepintvl(stream, PROBE);
    let _ = sockopt::set_tcp_keepcnt(stream, N_PROBES);
}

/// Whether nobody holds the socket at `client` any more that is connected to `server`. False where that cannot be
/// known.
#[cfg(target_os = "linux")]
pub(crate) fn is_gone(client: SocketAddr, server: SocketAddr) -> bool {
    let tables: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .collect();
    // What is not there says nothing: a table that changes while it is read may miss lines.
    let is_gone = tables.iter().find_map(|table| holder(table, client, server)) == Some(0);
    #[cfg(test)]
    looks::note(client, is_gone);
    is_gone
}

/// What was found of whom, for tests that must know that somebody has looked.
#[cfg(all(test, target_os = "linux"))]
pub(crate) mod looks {
    use std::net::SocketAddr;
    use std::sync::{Mutex, PoisonError};

    /// Guards the list between the threads that look and the tests.
    static FOUND: Mutex<Vec<(SocketAddr, bool)>> = Mutex::new(Vec::new());

    pub(super) fn note(client: SocketAddr, is_gone: bool) {
        FOUND.lock().unwrap_or_else(PoisonError::into_inner).push((client, is_gone));
    }

    /// How often this client was looked for and found to be gone, or there.
    pub(crate) fn count(client: SocketAddr, is_gone: bool) -> usize {
        let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        found.iter().filter(|look| **look == (client, is_gone)).count()
    }
}

/// Other systems have no such tables.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_gone(_client: SocketAddr, _server: SocketAddr) -> bool {
    false
}

/// The inode of the socket at `local` that is connected to `remote`, from the text of `/proc/net/tcp` (proc(5)); zero
/// when no process has it open.
#[cfg(any(target_os = "linux", test))]
fn holder(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let of_line = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let is_it =
            parse(columns.nth(1)?)? == canonical(local) && parse(columns.next()?)? == canonical(remote);
        // After the addresses come state, queues, timers, retransmits, user and timeout.
        is_it.then(|| columns.nth(6)?.parse().ok()).flatten()
    };
    table.lines().skip(1).find_map(of_line)
}

#[cfg(any(target_os = "linux", test))]
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An address as the tables have it: words of 32 bits in the order in which this machine has their bytes.
#[cfg(any(target_os = "linux", test))]
fn parse(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words = ip.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    let ip: std::net::IpAddr = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        16 => <[u8; 16]>::try_from(bytes).ok()?.into(),
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn the_tables_lines_are_found_by_both_addresses() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:21C2 0100007F:A3B4 01 00000000:00000000 00:00000000 00000000  1000        0 77002 1 0000 20 4 30 10 -1
   1: 0100007F:A3B4 0100007F:21C2 05 00000000:00000000 00:00000000 00000000  1000        0 77003 1 0000 20 4 30 10 -1
   2: 0100007F:A3B5 0100007F:21C2 05 00000000:00000000 03:00001752 00000000     0        0 0 3 0000
   3: 0000000000000000FFFF00000100007F:A3B6 0000000000000000FFFF00000100007F:21C2 05 0:0 00:0 0 0 0 77004
   4: 00000000000000000000000001000000:A3B7 00000000000000000000000001000000:21C2 05 0:0 00:0 0 0 0 77005
";
        let find =
            |client: &str, server: &str| holder(table, client.parse().unwrap(), server.parse().unwrap());
        assert_eq!(find("127.0.0.1:41908", "127.0.0.1:8642"), Some(77003));
        assert_eq!(find("127.0.0.1:41909", "127.0.0.1:8642"), Some(0));
        assert_eq!(find("[::ffff:127.0.0.1]:41908", "[::ffff:127.0.0.1]:8642"), Some(77003));
        assert_eq!(find("127.0.0.1:41910", "127.0.0.1:8642"), Some(77004));
        assert_eq!(find("[::1]:41911", "[::1]:8642"), Some(77005));
        assert_eq!(find("127.0.0.1:41912", "127.0.0.1:8642"), None);
        for garbage in
            ["", "x", ":", "0: :", "0: 0100007F:21C2", "0: ZZ:1 0100007F:21C2 05", "0: é00007F:1 é:2 05"]
        {
            let table = format!("head\n{garbage}");
            assert_eq!(holder(&table, "127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()), None);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_client_that_has_only_ended_its_side_is_there_and_one_that_has_closed_is_gone() {
        use std::net::{Shutdown, TcpListener, TcpStream};

        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else { continue };
            let server = listener.local_addr().unwrap();
            let client = TcpStream::connect(server).unwrap();
            let _accepted = listener.accept().unwrap();
            let address = client.local_addr().unwrap();
            assert!(!is_gone(address, server));
            client.shutdown(Shutdown::Write).unwrap();
            assert!(!is_gone(address, server), "{host}: it waits for its answer");
            drop(client);
            assert!(is_gone(address, server), "{host}");
        }
        assert!(
            !is_gone("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap()),
            "nothing is known of others"
        );
    }
}
