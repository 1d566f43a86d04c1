//! The least that an echo server on io_uring can do: the measure for the gateway's round trips.
//!
//! `raw PORT [THREADS [together]]`: per thread one ring with multishot accept into direct descriptors, multishot receive into
//! provided buffers, and sends straight from those buffers. No protocol, no queue, no limits, no slow peers: a peer that does
//! not read costs a buffer for good. Prints one line when it listens.
//!
//! `together`: nobody of a ring is answered before all of its connections have asked (1,024 at most), or none asks any more.
//! The measure for a fan-out, in which a question is the ack and an answer the push.

use io_uring::types::{BufRingEntry, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicU16, Ordering};

const BUFFERS: u16 = 1024;
const BUFFER_BYTES: usize = 2048;
const SLOTS: u32 = 16_384;
/// After so long without a question nobody is waited for.
const QUIET_NS: u32 = 50_000_000;

const ACCEPT: u64 = 1 << 60;
const RECEIVE: u64 = 2 << 60;
const SEND: u64 = 3 << 60;
const CLOSE: u64 = 4 << 60;

fn main() {
    let number = |at: usize| std::env::args().nth(at).map(|text| text.parse::<u16>().expect("a number"));
    let port = number(1).expect("usage: raw PORT [THREADS [together]]");
    let together = std::env::args().nth(3).is_some_and(|word| word == "together");
    let threads: Vec<_> = (0..number(2).unwrap_or(1))
        .map(|_| {
            let listener = listen(port);
            std::thread::spawn(move || serve(&listener, together))
        })
        .collect();
    println!("ready listen=127.0.0.1:{port}");
    threads.into_iter().for_each(|thread| thread.join().expect("a serving thread"));
}

/// A listener of its own per thread (SO_REUSEPORT); accepted sockets inherit TCP_NODELAY.
fn listen(port: u16) -> TcpListener {
    // SAFETY: plain socket calls; each pointer is to a live local of the size that is passed.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        let one: libc::c_int = 1;
        for (level, option) in [
            (libc::SOL_SOCKET, libc::SO_REUSEPORT),
            (libc::SOL_SOCKET, libc::SO_REUSEADDR),
            (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        ] {
            assert_eq!(libc::setsockopt(socket, level, option, (&raw const one).cast(), 4), 0);
        }
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: port.to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
            sin_zero: [0; 8],
        };
        assert_eq!(libc::bind(socket, (&raw const address).cast(), 16), 0, "{}", std::io::Error::last_os_error());
        assert_eq!(libc::listen(socket, 4096), 0);
        TcpListener::from_raw_fd(socket)
    }
}

/// The provided buffers of one ring, for the life of the process.
struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
}

impl Buffers {
    fn register(ring: &IoUring) -> Self {
        let map = |bytes: usize| {
            let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_ANONYMOUS | libc::MAP_PRIVATE);
            // SAFETY: a fresh mapping aliases nothing; it is never unmapped.
            let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
            assert_ne!(start, libc::MAP_FAILED);
            start
        };
        let entries: *mut BufRingEntry = map(usize::from(BUFFERS) * size_of::<BufRingEntry>()).cast();
        let memory = map(usize::from(BUFFERS) * BUFFER_BYTES).cast();
        // SAFETY: the entries are page-aligned, large enough, and live as long as the process.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries as u64, BUFFERS, 0, 0) }.expect("buffer ring");
        let mut buffers = Self { entries, memory, tail: 0 };
        (0..BUFFERS).for_each(|id| buffers.put(id));
        buffers
    }

    fn at(&self, id: u16) -> *mut u8 {
        // SAFETY: ids are below BUFFERS.
        unsafe { self.memory.add(usize::from(id) * BUFFER_BYTES) }
    }

    fn put(&mut self, id: u16) {
        // SAFETY: the index is masked to the ring; the kernel reads an entry only after the tail has moved over it.
        unsafe {
            let entry = &mut *self.entries.add(usize::from(self.tail & (BUFFERS - 1)));
            entry.set_addr(self.at(id) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            (*BufRingEntry::tail(self.entries).cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) {
    // SAFETY: what an entry points to (buffers) lives as long as the process.
    while unsafe { ring.submission().push(entry) }.is_err() {
        ring.submit().expect("submit");
    }
}

/// Submits and waits; whether that was in vain for as long as it may be.
fn wait_a_while(ring: &IoUring) -> bool {
    let quiet = Timespec::new().nsec(QUIET_NS);
    match ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&quiet)) {
        Err(error) if error.raw_os_error() == Some(libc::ETIME) => true,
        entered => entered.map(|_| false).expect("enter"),
    }
}

fn serve(listener: &TcpListener, together: bool) {
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(8192)
        .build(1024)
        .expect("io_uring");
    ring.submitter().register_files_sparse(SLOTS).expect("direct descriptors");
    let mut buffers = Buffers::register(&ring);
    let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).allocate_file_index(true).build().user_data(ACCEPT);
    let receive = |slot: u32| opcode::RecvMulti::new(Fixed(slot), 0).build().user_data(RECEIVE | u64::from(slot));
    push(&mut ring, &accept);
    let mut batch: Vec<cqueue::Entry> = Vec::new();
    // Where they are answered together.
    let (mut connections, mut answers) = (0, Vec::new());
    loop {
        let quiet = together && wait_a_while(&ring);
        if !together {
            ring.submit_and_wait(1).expect("enter");
        }
        batch.clear();
        batch.extend(ring.completion());
        for entry in &batch {
            let (data, result, ended) = (entry.user_data(), entry.result(), !cqueue::more(entry.flags()));
            let slot = data as u32;
            match data & 0xf << 60 {
                ACCEPT => {
                    if let Ok(slot) = u32::try_from(result) {
                        connections += 1;
                        push(&mut ring, &receive(slot));
                    }
                    if ended && result >= 0 {
                        push(&mut ring, &accept);
                    }
                }
                RECEIVE if result > 0 => {
                    let id = cqueue::buffer_select(entry.flags()).expect("a buffer");
                    let send = opcode::Send::new(Fixed(slot), buffers.at(id), result as u32)
                        .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                        .build()
                        .user_data(SEND | u64::from(id) << 32 | u64::from(slot));
                    if together {
                        answers.push(send)
                    } else {
                        push(&mut ring, &send)
                    }
                    if ended {
                        push(&mut ring, &receive(slot));
                    }
                }
                RECEIVE if result == -libc::ENOBUFS => push(&mut ring, &receive(slot)),
                RECEIVE if ended => {
                    connections -= 1;
                    let close = opcode::Close::new(Fixed(slot)).build().user_data(CLOSE);
                    push(&mut ring, &close);
                }
                SEND => buffers.put((data >> 32) as u16),
                _ => {}
            }
        }
        if quiet || answers.len() >= usize::from(BUFFERS).min(connections) {
            answers.drain(..).for_each(|send| push(&mut ring, &send));
        }
    }
}
