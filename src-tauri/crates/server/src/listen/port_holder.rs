//! Who listens on a port, as far as the system lets us know.

use std::fmt;

use listeners::{Listener, Protocol, SocketState};

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
pub(crate) fn port_holder(port: u16) -> Option<PortHolder> {
    // A look-up by port alone would also find clients whose own end has that number.
    let holds = |listener: &Listener| {
        listener.socket.port() == port
            && listener.protocol == Protocol::TCP
            && listener.state == SocketState::Listen
    };
    let holder = listeners::get_all().ok()?.into_iter().find(holds)?.process;
    let program: String = holder.name.trim_end().chars().filter(|c| !c.is_control()).collect();
    Some(PortHolder { pid: holder.pid, program })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn our_own_listener_is_found_under_our_own_pid() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = port_holder(listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.program.is_empty());
    }

    #[test]
    fn only_who_listens_holds_a_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(port_holder(client.local_addr().unwrap().port()), None);
    }
}
