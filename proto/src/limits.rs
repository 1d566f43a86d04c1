//! Every limit of the wire: its default and its reason. All are told in welcome.

/// Bytes of a text or payload.
pub const BODY_BYTES: usize = 64 << 10;
/// Bytes of one protobuf frame: 256 KiB of slices and what names them.
pub const FRAME_BYTES: usize = 300 << 10;
/// Bytes of one JSON frame: base64 grows a body by a third.
pub const JSON_FRAME_BYTES: usize = 512 << 10;
/// Bytes of an HTTP request head, up to and including the empty line.
pub const HEAD_BYTES: usize = 8 << 10;
/// Devices of one user: one primary and four linked.
pub const DEVICES: usize = 5;
/// Milliseconds from accept to authenticated.
pub const AUTHENTICATE_MS: u64 = 10_000;
/// Requests of a session without an answer; then its socket is not read.
pub const UNANSWERED_REQUESTS: u32 = 32;
/// Pushes without an ack.
pub const WINDOW_PUSHES: u32 = 64;
/// Bytes pushed without an ack.
pub const WINDOW_BYTES: u32 = 256 << 10;
/// Records that one fetch answers at most.
pub const FETCH_RECORDS: u32 = 100;
/// Records that one history request answers at most; 50 where it does not say.
pub const HISTORY_RECORDS: u32 = 100;
/// Client message ids of one lookup.
pub const LOOKUP_IDS: u32 = 100;
/// Conversations of one page.
pub const CONVERSATION_PAGE: u32 = 100;
/// Positions in hello's `have`.
pub const HAVE_POSITIONS: usize = 2_048;
/// For how long a client message id is remembered at least, milliseconds.
pub const DEDUPE_MS: u64 = 24 * 3_600 * 1_000;
/// Leeway for clocks between token issuer and gateway, milliseconds.
pub const TOKEN_LEEWAY_MS: u64 = 5_000;
/// How long before its token expires a session hears renewSoon, milliseconds.
pub const RENEW_SOON_MS: u64 = 120_000;
/// A session with pushes outstanding and no ack for this long is a slow consumer, milliseconds.
pub const PROGRESS_MS: u64 = 30_000;
/// Takeovers of one device within [`TAKEOVER_WINDOW_MS`]; the next newcomer gets DEVICE_IN_USE.
pub const TAKEOVERS: usize = 3;
pub const TAKEOVER_WINDOW_MS: u64 = 60_000;
/// Default heartbeat interval, milliseconds.
pub const HEARTBEAT_MS: u64 = 30_000;
/// Members of a group.
pub const GROUP_MEMBERS: usize = 1_024;
/// Bytes of a group's name, of its description, and of an avatar's media id.
pub const GROUP_NAME_BYTES: usize = 256;
pub const GROUP_DESCRIPTION_BYTES: usize = 2_048;
pub const AVATAR_BYTES: usize = 128;
/// Bytes of a user's name, and conversations that it mutes.
pub const PROFILE_NAME_BYTES: usize = 256;
pub const MUTES: usize = 500;
/// Bytes of one slice, bytes of all slices of a send, and their number.
pub const SLICE_BYTES: usize = 64 << 10;
pub const SLICES_BYTES: usize = 256 << 10;
pub const SLICES: usize = 64;
/// Users of one deviceLists request.
pub const DEVICE_LIST_USERS: usize = 64;
/// Who says nothing more is no longer writing after this, milliseconds.
pub const TYPING_MS: u64 = 6_000;
/// Users that a session watches.
pub const WATCHED_USERS: usize = 200;
/// For how long a message may be edited, and erased by its sender, milliseconds.
pub const EDIT_MS: u64 = 15 * 60 * 1_000;
pub const ERASE_MS: u64 = 48 * 3_600 * 1_000;
/// Bytes of a reaction: an emoji of any length that is in use.
pub const REACTION_BYTES: usize = 64;
/// Bytes of what a message says of a file, with its thumbnail.
pub const MEDIA_BYTES: usize = 32 << 10;
