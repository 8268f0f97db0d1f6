//! Who listens on a port, as far as the system lets us know.

use std::fmt;

/// A process that listens on the port we wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortHolder {
    pid: u32,
    program: String,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.program, self.pid)
    }
}

/// The process that listens on TCP `port`; none when that is nobody's or somebody's whose files we may not read.
#[cfg(target_os = "linux")]
pub(crate) fn port_holder(port: u16) -> Option<PortHolder> {
    use std::fs;

    let inodes: Vec<u64> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find_map(|pid| {
        let mut files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        files.find(|file| {
            fs::read_link(file.path())
                .is_ok_and(|link| links.iter().any(|ours| link.as_os_str() == ours.as_str()))
        })?;
        let program =
            fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_else(|_| "a process".to_owned());
        Some(PortHolder { pid, program: program.trim_end().chars().filter(|c| !c.is_control()).collect() })
    })
}

/// Other systems have no such files.
#[cfg(not(target_os = "linux"))]
pub(crate) fn port_holder(_port: u16) -> Option<PortHolder> {
    None
}

/// Inodes of the sockets that listen on `port`, from the text of `/proc/net/tcp` (proc(5)).
#[cfg(any(target_os = "linux", test))]
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let inode = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let local = columns.nth(1)?;
        let state = columns.nth(1)?;
        let (_, local_port) = local.rsplit_once(':')?;
        let matches = state == LISTEN && u16::from_str_radix(local_port, 16) == Ok(port);
        // After the state come queues, timers, retransmits, user and timeout.
        matches.then(|| columns.nth(5)?.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:21C2 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 77001 1 0000 100 0 0 10 0
   1: 0100007F:21C2 0100007F:A3B4 01 00000000:00000000 00:00000000 00000000  1000        0 77002 1 0000 20 4 30 10 -1
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77003 1 0000 100 0 0 10 0
";

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        assert_eq!(listening_inodes(TABLE, 8642), [77001]);
        assert_eq!(listening_inodes(TABLE, 22), [77003]);
        assert_eq!(listening_inodes(TABLE, 23), [0u64; 0]);
        assert_eq!(listening_inodes("garbage\n\n: 0A\n0: x 0 0A", 22), [0u64; 0]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn our_own_listener_is_found_under_our_own_pid() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = port_holder(listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.program.is_empty());
    }
}
