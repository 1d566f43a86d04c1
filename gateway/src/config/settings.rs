//! The one table of settings. Everything else follows from it: the file's keys, the variables, the flags, `ringpost
//! config`, and the fields of [`Settings`].
//!
//! To add a setting, add a row: its documentation is what operators read, so it says what the setting does and why the
//! default is what it is.

use super::value::{Bounds, Retention, Value};
use super::{ConfigError, Layers};
use crate::address::range::Range;
use ringpost_proto::limits;
use std::net::SocketAddr;
use std::path::PathBuf;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The TOML key. The variable is `RINGPOST_` and the key in capitals; the flag has hyphens.
    pub key: &'static str,
    pub about: &'static str,
    pub bounds: Bounds,
    default: fn() -> String,
}

impl Setting {
    pub fn default_text(&self) -> String {
        (self.default)()
    }

    pub fn variable(&self) -> String {
        format!("RINGPOST_{}", self.key.to_uppercase())
    }

    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }
}

macro_rules! settings {
    ($( $(#[doc = $about:literal])+ $key:ident: $type:ty = $default:expr, $bounds:expr; )+) => {
        /// The effective value of every setting.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings {
            $( $(#[doc = $about])+ pub $key: $type, )+
        }

        pub const SETTINGS: &[Setting] = &[$( Setting {
            key: stringify!($key),
            about: concat!($($about),+),
            bounds: $bounds,
            default: || $default.to_string(),
        }, )+];

        impl Settings {
            pub fn from_layers(layers: &Layers) -> Result<Self, ConfigError> {
                let mut rows = SETTINGS.iter();
                Ok(Self { $( $key: layers.value::<$type>(rows.next(), stringify!($key))?, )+ })
            }

            /// (key, value as TOML), in the order of the table.
            pub fn to_toml(&self) -> Vec<(&'static str, String)> {
                vec![$( (stringify!($key), self.$key.to_toml()), )+]
            }
        }
    };
}

const MINUTE_MS: u64 = 60_000;
const ADDRESS: Bounds = Bounds::Any("an address like 127.0.0.1:7600 (port 0: any free one)");
const RANGES: Bounds =
    Bounds::Any("addresses like 192.0.2.7 and ranges like 10.0.0.0/8, which start at their lowest address");

settings! {
    /// The public address: WebSocket and HTTP. Plaintext; anywhere but on loopback put a TLS proxy before it.
    listen: SocketAddr = "127.0.0.1:7600", ADDRESS;
    /// Another public address, for balancers that begin each connection with a PROXY header of version 2 (HAProxy's send-proxy-v2, AWS NLB): who connects there without one, or is not in trusted_proxies, is closed. Empty: none. In a balancer's network, not in the open.
    listen_proxied: Option<SocketAddr> = "", ADDRESS;
    /// The admin address: /metrics, /healthz, /readyz, and the commands that export, erase and revoke. Has no authentication, so
    /// it belongs on loopback or a private network.
    admin: SocketAddr = "127.0.0.1:7601", ADDRESS;
    /// The directory of the store. One process at a time; created where it does not exist.
    data: PathBuf = "./ringpost-data", Bounds::Any("a path");
    /// Development: accepts tokens of the public development key and serves /v1/dev/token and /v1/echo. Loopback only.
    dev: bool = false, Bounds::Switch;
    /// This node's name, told in welcome and in logs.
    node: String = "local", Bounds::Length(1, 64);
    /// This node's number inside record ids; no two nodes of one store may share it.
    worker: u16 = 0, Bounds::Range(0, 8_191);
    /// Sessions that this process is sized for. Readiness ends when they are reached; the tables have an eighth of room above, then connections wait in the backlog.
    max_sessions: u32 = 30_000, Bounds::Range(1, 16_000_000);
    /// Threads of the data plane, one ring each. 0: as many as cores, and more where the limit of open files caps a ring below its share of max_sessions.
    shards: u16 = 0, Bounds::Range(0, 1_024);
    /// Silence after which the server pings; at twice this and 5 s it closes. 30 s keeps mobile NAT entries alive.
    heartbeat_ms: u64 = limits::HEARTBEAT_MS, Bounds::Range(100, 10 * MINUTE_MS);
    /// Pushes to one session without an ack; beyond, the log is the buffer.
    window_pushes: u32 = limits::WINDOW_PUSHES, Bounds::Range(1, 4_096);
    /// Bytes pushed to one session without an ack. At least one record of the greatest size.
    window_bytes: u32 = limits::WINDOW_BYTES, Bounds::Range(96 << 10, 16 << 20);
    /// A session with pushes outstanding and no ack for this long is closed SLOW_CONSUMER.
    progress_ms: u64 = limits::PROGRESS_MS, Bounds::Range(100, 10 * MINUTE_MS);
    /// From accept to an authenticated hello; then close 4501.
    authenticate_ms: u64 = limits::AUTHENTICATE_MS, Bounds::Range(100, MINUTE_MS);
    /// After a crash clients spread their reconnects over this long: 30,000 sessions in 5 s are 6,000 handshakes a second.
    crash_slot_ms: u64 = 5_000, Bounds::Range(0, 10 * MINUTE_MS);
    /// Conversations that a shard holds in memory. Beyond, those at rest for 10 s leave it, and are read again when they are used.
    conversations_in_memory: u32 = 262_144, Bounds::Range(1, 1 << 24);
    /// Days after which a linked device that nobody saw is unlinked, with the next change of its user's devices. 0: never.
    device_dormant_days: u32 = 30, Bounds::Range(0, 3_650);
    /// Messages that a device may send each second; one more is answered RATE_LIMITED. 0: not limited, which is the default with dev, so that a load tool measures the server.
    sends_per_second: u32 = 30, Bounds::Range(0, 1_000_000);
    /// Messages that a device may send at once, before the rate counts; a user twice as many over all its devices.
    sends_burst: u32 = 60, Bounds::Range(1, 1_000_000);
    /// Messages that a user may send each second over all its devices. 0: not limited, as with dev.
    user_sends_per_second: u32 = 60, Bounds::Range(0, 1_000_000);
    /// Other requests of a device each second (history, fetch, reads, groups; acks and pings are free), twice as many at once. 0: not limited, as with dev.
    requests_per_second: u32 = 100, Bounds::Range(0, 1_000_000);
    /// Whether a message to somebody who blocks its sender is answered FORBIDDEN. By default it is stored and never shown, and the sender sees one tick: nobody learns that he is blocked.
    refuse_blocked: bool = false, Bounds::Switch;
    /// New direct conversations that a user may begin in a day until somebody answers it for the first time; then it is not limited any more. 0: not limited, as with dev.
    new_conversations_per_day: u32 = 20, Bounds::Range(0, 10_000);
    /// Connections that one address may have open (IPv6: a network of /64). Beyond: 429. Many people can share one address. 0: not limited.
    address_connections: u32 = 100, Bounds::Range(0, 16_000_000);
    /// Upgrades to WebSocket and tickets of one address each second, together, and as many at once. Beyond: 429. 0: not limited.
    address_upgrades_per_second: u32 = 20, Bounds::Range(0, 100_000);
    /// Proxies whose X-Forwarded-For, and at listen_proxied whose PROXY header, is believed: addresses or ranges (separated by commas outside a file). Their own connections are not limited, those for whom they speak are, from the upgrade on.
    trusted_proxies: Vec<Range> = "", RANGES;
    /// Addresses that are not limited. With dev those of loopback, unless others are named.
    exempt_addresses: Vec<Range> = "", RANGES;
    /// How long a graceful stop lets sessions take their close frames and answers before sockets are cut.
    drain_ms: u64 = 3_000, Bounds::Range(0, 10 * MINUTE_MS);
    /// Origins of browsers that may connect besides the server's own, written as browsers do: scheme, host, and port where it is not the scheme's (separated by commas outside a file).
    allowed_origins: Vec<String> = "", Bounds::Length(1, 256);
    /// The file of token keys (gateway/docs/operations.md has its format). Needed unless dev is on.
    token_keys: Option<PathBuf> = "", Bounds::Any("a path");
    /// How often sets of keys (jwks with a url, in the key file) are fetched. A key that was removed is accepted for so long at most.
    jwks_refresh_ms: u32 = 10 * MINUTE_MS, Bounds::Range(1_000, 24 * 60 * MINUTE_MS);
    /// What the iss claim of a token must be, where its key names no other.
    token_issuer: String = "ringpost", Bounds::Length(1, 256);
    /// What the aud claim of a token must be or hold.
    token_audience: String = "ringpost", Bounds::Length(1, 256);
    /// Submission queue entries of a ring. One system call submits at most so many.
    sq_entries: u32 = 1_024, Bounds::PowerOfTwo(64, 32_768);
    /// Completion queue entries of a ring. An overflow costs time, never data.
    cq_entries: u32 = 16_384, Bounds::PowerOfTwo(64, 65_536);
    /// Provided receive buffers of a ring, shared by its connections.
    buffers: u32 = 1_024, Bounds::PowerOfTwo(16, 32_768);
    /// Bytes of one receive buffer. Most frames fit in 2 KiB; larger ones take several.
    buffer_bytes: u32 = 2_048, Bounds::Range(512, 65_536);
    /// Entries of a shard's inbox. Where it is full the sender keeps what it could not pass on and tries again in its next turn.
    inbox_entries: u32 = 4_096, Bounds::PowerOfTwo(256, 1 << 20);
    /// Bytes queued for one socket at most; a session that exceeds it is closed SLOW_CONSUMER. An honest one stays below: its window bounds it.
    outbox_bytes: u32 = 4 << 20, Bounds::Range(1 << 20, 64 << 20);
    /// SO_SNDBUF of a session's socket: the kernel memory that a slow peer can hold.
    send_buffer_bytes: u32 = 128 << 10, Bounds::Range(4 << 10, 4 << 20);
    /// TCP_USER_TIMEOUT: a peer that acknowledges nothing for this long is gone.
    user_timeout_ms: u32 = 30_000, Bounds::Range(1_000, 10 * MINUTE_MS);
    /// Bytes of a segment of the write-ahead log. Preallocated, so also the least free space needed.
    segment_bytes: u64 = 64 << 20, Bounds::Range(1 << 20, 1 << 30);
    /// How long messages are kept: history (until they are deleted) or relay (`retention_days`). It counts for new messages; what is stored keeps what it was stored with.
    retention: Retention = Retention::History, Bounds::Any("history or relay");
    /// With relay: days for which a message is kept at least. They are removed by whole months, which costs no rewriting of what stays.
    retention_days: u32 = 30, Bounds::Range(1, 3_650);
    /// Bytes of new records in memory before they are written to the trees. More of them: fewer, larger files, and a longer start. Up to three times as much is held while the disk is slow; then sends are refused until it catches up.
    store_memory_bytes: u64 = 64 << 20, Bounds::Range(1 << 20, 4 << 30);
    /// Bytes of the log that the trees on disk do not hold yet, at most: it bounds the next start, which reads them.
    store_log_bytes: u64 = 1 << 30, Bounds::Range(64 << 20, 16 << 30);
    /// Bytes of blocks of the trees that are kept in memory for reads.
    store_cache_bytes: u64 = 128 << 20, Bounds::Range(1 << 20, 256 << 30);
    /// Percent of the disk that must be free; below, sends are refused with STORAGE_FULL and everything else goes on. Not 0: what is written beside messages needs room, and a disk with none ends the process.
    disk_floor: u8 = 5, Bounds::Range(1, 50);
    /// Requests to the store that a shard may have unanswered; beyond, sends are answered with a retryable error.
    store_queue: u32 = 4_096, Bounds::PowerOfTwo(64, 1 << 16);
    /// HTTP requests in progress on the edge runtime, all shards together; beyond: 503.
    edge_requests: u32 = 1_024, Bounds::Range(1, 65_536);
}
