//! What the kernel of this machine holds for sockets.
//!
//! Owns: reading /proc/net/tcp, tcp6 and sockstat, /proc/slabinfo and /proc/meminfo. Guarantees: what cannot be read (slabinfo is
//! root's) is unknown and never 0. Sockets of one port are told apart from all others; the rest is of the whole machine. Never
//! does: judging.

/// One number that the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Sockets that have the port at either end, in any state but LISTEN and TIME_WAIT.
    OfPort,
    /// The same in TIME_WAIT.
    Waiting,
    /// Sockets without the port, in any state but TIME_WAIT.
    Others,
    /// Of the line `TCP:` of sockstat, by its key.
    Tcp(&'static str),
    /// Objects in use of a slab cache. Those that lie ready on a processor's own lists count as in use.
    Slab(&'static str),
    /// Of meminfo, in bytes.
    Memory(&'static str),
}

/// What it told at one moment.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// Of the port: those in use, those in TIME_WAIT; and others. `None`: nobody tells.
    sockets: Option<[u64; 3]>,
    sockstat: String,
    slabinfo: String,
    meminfo: String,
}

impl Kernel {
    /// As of now, with the sockets of this port told apart.
    pub fn read(port: u16) -> Self {
        let file = |path| std::fs::read_to_string(path);
        let of = |path| file(path).unwrap_or_default();
        let sockets = file("/proc/net/tcp").ok().map(|tcp| sockets(&[tcp, of("/proc/net/tcp6")], port));
        let (sockstat, slabinfo) = (of("/proc/net/sockstat"), of("/proc/slabinfo"));
        Self { sockets, sockstat, slabinfo, meminfo: of("/proc/meminfo") }
    }

    pub fn value(&self, told: Told) -> Option<f64> {
        match told {
            Told::OfPort => self.sockets.map(|[in_use, ..]| in_use as f64),
            Told::Waiting => self.sockets.map(|[_, waiting, _]| waiting as f64),
            Told::Others => self.sockets.map(|[.., others]| others as f64),
            Told::Tcp(key) => {
                let mut words = line(&self.sockstat, "TCP:")?.skip_while(|word| *word != key);
                words.nth(1)?.parse().ok()
            }
            Told::Slab(name) => line(&self.slabinfo, name)?.next()?.parse().ok(),
            Told::Memory(name) => Some(line(&self.meminfo, name)?.next()?.parse::<f64>().ok()? * 1_024.0),
        }
    }
}

/// Of proc_net_tcp(5): of the port in use, in TIME_WAIT, and others.
fn sockets(tables: &[String], port: u16) -> [u64; 3] {
    const TIME_WAIT: &str = "06";
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    let [mut in_use, mut waiting, mut others] = [0; 3];
    for row in tables.iter().flat_map(|table| table.lines().skip(1)) {
        let mut words = row.split_ascii_whitespace().skip(1);
        let (Some(local), Some(remote), Some(state)) = (words.next(), words.next(), words.next()) else { continue };
        match (local.ends_with(&suffix) || remote.ends_with(&suffix), state) {
            (true, TIME_WAIT) => waiting += 1,
            (true, LISTEN) | (false, TIME_WAIT) => {}
            (true, _) => in_use += 1,
            (false, _) => others += 1,
        }
    }
    [in_use, waiting, others]
}

/// The words behind the first one of the line that begins with it.
fn line<'t>(text: &'t str, first: &str) -> Option<impl Iterator<Item = &'t str>> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(first)).then_some(words)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_found_by_its_whole_name_and_none_is_made_up() {
        let kernel = Kernel {
            sockets: None,
            sockstat: "sockets: used 17\nTCP: inuse 1 orphan 2 tw 30 alloc 4 mem 177\nUDP: inuse 9 mem 9\n".to_owned(),
            slabinfo: "slabinfo - version: 2.1\n# name <active_objs>\nTCPv6 7 156 2496\nTCP 104 110 2368\n".to_owned(),
            meminfo: "Slab:             816668 kB\nSUnreclaim:        2 kB\n".to_owned(),
        };
        let tcp = ["inuse", "orphan", "tw", "alloc", "mem"].map(|key| kernel.value(Told::Tcp(key)));
        assert_eq!(tcp, [1.0, 2.0, 30.0, 4.0, 177.0].map(Some));
        assert_eq!((kernel.value(Told::Slab("TCP")), kernel.value(Told::Slab("filp"))), (Some(104.0), None));
        assert_eq!(kernel.value(Told::Memory("SUnreclaim:")), Some(2_048.0));
        assert_eq!((kernel.value(Told::Tcp("lost")), Kernel::default().value(Told::Tcp("inuse"))), (None, None));
    }

    #[test]
    fn sockets_of_the_port_are_told_apart_by_either_end_and_state() {
        let row =
            |local: &str, remote: &str, state: &str| format!("   0: {local} {remote} {state} 00000000:00000000\n");
        let rows = [
            ("0100007F:1DB0", "00000000:0000", "0A"),
            ("0100007F:1DB0", "0100017F:9C41", "01"),
            ("0100017F:9C41", "0100007F:1DB0", "01"),
            ("0100007F:1DB0", "0100017F:9C42", "08"),
            ("0100017F:9C43", "0100007F:1DB0", "06"),
            ("0100007F:1DB1", "0100007F:9C41", "06"),
            ("0100007F:0016", "00000000:0000", "0A"),
        ];
        let table: String = rows.iter().map(|(local, remote, state)| row(local, remote, state)).collect();
        let table = format!("  sl  local_address rem_address   st\n{table}");
        assert_eq!(sockets(&[table], 7_600), [3, 1, 1]);
    }

    #[test]
    fn this_kernel_tells_of_its_sockets() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let kernel = Kernel::read(address.port());
        assert_eq!(kernel.value(Told::OfPort), Some(2.0));
        assert!(kernel.value(Told::Tcp("inuse")).is_some() && kernel.value(Told::Memory("SUnreclaim:")) > Some(0.0));
    }
}
