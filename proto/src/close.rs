//! Close codes: what a session is told when it ends, and whether it may come back by itself.

/// Why the server ends a session. On WebSocket the number is the close code; on QUIC the application error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    Normal = 1000,
    /// A message of the wrong type for this session (binary on JSON, text on protobuf).
    Unsupported = 1003,
    // Reconnect with back-off and full jitter:
    Draining = 4000,
    HeartbeatMissed = 4001,
    SlowConsumer = 4002,
    Overloaded = 4003,
    Internal = 4004,
    // Do not reconnect by yourself:
    Replaced = 4500,
    Unauthenticated = 4501,
    TokenExpired = 4502,
    DeviceRevoked = 4503,
    DeviceInUse = 4504,
    Protocol = 4505,
}

impl CloseCode {
    pub const ALL: [CloseCode; 13] = [
        Self::Normal,
        Self::Unsupported,
        Self::Draining,
        Self::HeartbeatMissed,
        Self::SlowConsumer,
        Self::Overloaded,
        Self::Internal,
        Self::Replaced,
        Self::Unauthenticated,
        Self::TokenExpired,
        Self::DeviceRevoked,
        Self::DeviceInUse,
        Self::Protocol,
    ];

    /// Whether a client that got `code` may reconnect by itself (with back-off). Unknown codes and a broken transport: yes.
    pub fn may_reconnect(code: u16) -> bool {
        !(4500..4600).contains(&code) && code != Self::Normal as u16 && code != Self::Unsupported as u16
    }

    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Unsupported => "unsupported",
            Self::Draining => "draining",
            Self::HeartbeatMissed => "heartbeat_missed",
            Self::SlowConsumer => "slow_consumer",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal",
            Self::Replaced => "replaced",
            Self::Unauthenticated => "unauthenticated",
            Self::TokenExpired => "token_expired",
            Self::DeviceRevoked => "device_revoked",
            Self::DeviceInUse => "device_in_use",
            Self::Protocol => "protocol",
        }
    }
}
