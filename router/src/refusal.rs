//! Error frames: one function per kind of refusal, so that code, retryability and blame always agree.

use ringpost_proto::v1;
use ringpost_proto::v1::code::Value as Code;

fn error(code: Code, message: impl Into<String>) -> v1::Error {
    v1::Error { code: code as i32, message: message.into(), ..Default::default() }
}

fn retryable(code: Code, retry_after_ms: u64, message: &str) -> v1::Error {
    v1::Error { retryable: true, retry_after_ms, ..error(code, message) }
}

/// The client's fault: a field that is out of bounds.
pub fn invalid(field: &str, message: impl Into<String>) -> v1::Error {
    v1::Error { field: field.into(), ..error(Code::Invalid, message) }
}

pub fn too_large(field: &str, most: usize) -> v1::Error {
    v1::Error { field: field.into(), ..error(Code::TooLarge, format!("at most {most} bytes")) }
}

pub fn too_many(field: &str, most: u32) -> v1::Error {
    v1::Error { field: field.into(), ..error(Code::TooLarge, format!("at most {most}")) }
}

pub fn unimplemented(field: &str, message: &str) -> v1::Error {
    v1::Error { field: field.into(), ..error(Code::Unimplemented, message) }
}

pub fn unauthenticated(message: &str) -> v1::Error {
    error(Code::Unauthenticated, message)
}

pub fn forbidden(message: &str) -> v1::Error {
    error(Code::Forbidden, message)
}

pub fn not_found(field: &str, message: &str) -> v1::Error {
    v1::Error { field: field.into(), ..error(Code::NotFound, message) }
}

pub fn not_member() -> v1::Error {
    error(Code::NotMember, "you are not a member of this conversation")
}

pub fn group_full(message: String) -> v1::Error {
    error(Code::GroupFull, message)
}

/// The group has lost members since the epoch that the send named: what is encrypted for them is not stored.
pub fn stale_group(stale: v1::StaleGroup) -> v1::Error {
    let details = v1::Details { details: Some(v1::details::Details::StaleGroup(stale)) };
    v1::Error {
        field: "groupEpoch".into(),
        details: Some(details),
        ..error(Code::StaleGroup, "the members are not those that you wrote for; nothing was stored")
    }
}

/// The slices are not for the devices that there are.
pub fn device_mismatch(mismatch: v1::DeviceMismatch) -> v1::Error {
    let details = v1::Details { details: Some(v1::details::Details::DeviceMismatch(mismatch)) };
    v1::Error {
        field: "slices".into(),
        details: Some(details),
        ..error(Code::DeviceMismatch, "the devices are not those that you wrote for; nothing was stored")
    }
}

/// The conversation has more members than a message can have slices for.
pub fn too_many_members(message: String) -> v1::Error {
    v1::Error { field: "slices".into(), ..error(Code::TooLarge, message) }
}

/// One more device than a user may have.
pub fn device_limit(message: impl Into<String>) -> v1::Error {
    error(Code::DeviceLimit, message)
}

/// The id names a message with other content; `first` is what became of that one.
pub fn conflict(first: v1::Sent) -> v1::Error {
    let details = v1::Details { details: Some(v1::details::Details::Conflict(first)) };
    v1::Error {
        field: "clientMessageId".into(),
        details: Some(details),
        ..error(Code::Conflict, "this id was used for a message with other content")
    }
}

pub fn expired() -> v1::Error {
    let message = "the id is older than 24 hours: look it up before you send anew";
    v1::Error { field: "clientMessageId".into(), ..error(Code::Expired, message) }
}

/// The store's fault; nothing was stored.
pub fn unavailable() -> v1::Error {
    retryable(Code::Unavailable, 1_000, "the store does not answer; nothing was stored")
}

/// What is stored cannot be read, and will not be by trying again.
pub fn unreadable() -> v1::Error {
    error(Code::Internal, "what is stored cannot be read by this server; nothing was changed")
}

pub fn storage_full() -> v1::Error {
    retryable(Code::StorageFull, 30_000, "the disk is nearly full; nothing was stored")
}

/// The client is faster than it may be.
pub fn rate_limited(retry_after_ms: u64) -> v1::Error {
    retryable(Code::RateLimited, retry_after_ms, "too many requests; nothing was done")
}

/// A user who was never answered has begun too many conversations.
pub fn too_many_beginnings(retry_after_ms: u64) -> v1::Error {
    retryable(
        Code::RateLimited,
        retry_after_ms,
        "too many new conversations for who was never answered; nothing was stored",
    )
}

pub fn overloaded() -> v1::Error {
    retryable(Code::Overloaded, 1_000, "too many messages wait for this conversation; nothing was stored")
}
