//! What an error of the driver means: was the request carried out, or not, or does nobody know?

use crate::record::RecordError;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use std::fmt::Display;

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// It was not carried out, and will not be.
    #[error("not carried out: {0}")]
    Refused(String),
    /// It may be carried out, now or later.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// What is stored is not what this build writes.
    #[error("stored row: {0}")]
    Unreadable(String),
}

impl Failed {
    pub(super) fn unreadable(what: impl Display) -> Self {
        Self::Unreadable(what.to_string())
    }
}

impl From<RecordError> for Failed {
    fn from(error: RecordError) -> Self {
        Self::unreadable(error)
    }
}

impl From<ExecutionError> for Failed {
    fn from(error: ExecutionError) -> Self {
        let text = error.to_string();
        if was_not_sent(&error) { Self::Refused(text) } else { Self::Unknown(text) }
    }
}

/// Whether no node has begun to carry it out. In doubt it may have: a conditional write that says "unavailable" or "timed out"
/// may have been accepted by some replicas, and the next one of the partition completes it.
fn was_not_sent(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::BadQuery(_)
        | ExecutionError::EmptyPlan
        | ExecutionError::PrepareError(_)
        | ExecutionError::ConnectionPoolError(_)
        | ExecutionError::UseKeyspaceError(_) => true,
        ExecutionError::LastAttemptError(attempt) => match attempt {
            RequestAttemptError::SerializationError(_)
            | RequestAttemptError::CqlRequestSerialization(_)
            | RequestAttemptError::UnableToAllocStreamId
            | RequestAttemptError::RepreparedIdChanged { .. }
            | RequestAttemptError::RepreparedIdMissingInBatch => true,
            RequestAttemptError::DbError(error, _) => matches!(
                error,
                DbError::SyntaxError
                    | DbError::Invalid
                    | DbError::AuthenticationError
                    | DbError::Unauthorized
                    | DbError::ConfigError
                    | DbError::IsBootstrapping
                    | DbError::Unprepared { .. }
                    | DbError::ProtocolError
            ),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scylla::errors::WriteType;
    use scylla::statement::Consistency::LocalQuorum;
    use std::time::Duration;

    fn of(error: DbError) -> Failed {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, String::new())).into()
    }

    #[test]
    fn only_what_was_surely_not_begun_is_refused() {
        let refused = [
            Failed::from(ExecutionError::EmptyPlan),
            ExecutionError::LastAttemptError(RequestAttemptError::UnableToAllocStreamId).into(),
            of(DbError::Invalid),
            of(DbError::IsBootstrapping),
        ];
        assert!(refused.iter().all(|failed| matches!(failed, Failed::Refused(_))), "{refused:?}");
        let (received, required) = (1, 2);
        let unknown = [
            Failed::from(ExecutionError::RequestTimeout(Duration::from_secs(1))),
            of(DbError::WriteTimeout { consistency: LocalQuorum, received, required, write_type: WriteType::Cas }),
            // A conditional write may have been accepted before it is told that too few replicas are left to commit it.
            of(DbError::Unavailable { consistency: LocalQuorum, required, alive: 1 }),
            of(DbError::Overloaded),
            of(DbError::ServerError),
        ];
        assert!(unknown.iter().all(|failed| matches!(failed, Failed::Unknown(_))), "{unknown:?}");
    }
}
