//! Every statement that is sent, prepared once, and how each may be repeated.

use super::OpenError;
use scylla::client::session::Session;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};
use std::sync::Arc;

/// Rows of a page, where a read does not say.
const PAGE: i32 = 128;

/// How often a statement may be carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Reads, and writes that mean the same again: the driver asks another node.
    Freely,
    /// Conditional writes, and reads that end those under way: never by the driver.
    Never,
}

/// The statements; named by their tables.
pub(super) struct Statements {
    /// The first append of a log, of a later bucket, and every other one: their guards. Then their records.
    pub(super) log_begin: PreparedStatement,
    pub(super) log_enter: PreparedStatement,
    pub(super) log_advance: PreparedStatement,
    pub(super) log_insert: PreparedStatement,
    pub(super) log_insert_cut: PreparedStatement,
    /// Reads at serial consistency: they end what is under way in the partition.
    pub(super) log_slot: PreparedStatement,
    pub(super) log_head: PreparedStatement,
    pub(super) log_up: PreparedStatement,
    pub(super) log_down: PreparedStatement,
    pub(super) log_kind: PreparedStatement,
    pub(super) log_erase: PreparedStatement,
    pub(super) log_erase_body: PreparedStatement,
    pub(super) body_put: PreparedStatement,
    pub(super) body_of: PreparedStatement,
    pub(super) body_erase: PreparedStatement,
    pub(super) conv_put: PreparedStatement,
    pub(super) conv_of: PreparedStatement,
    pub(super) member_delivered: PreparedStatement,
    pub(super) member_read: PreparedStatement,
    pub(super) member_read_counted: PreparedStatement,
    pub(super) member_read_shown: PreparedStatement,
    pub(super) member_tick_delivered: PreparedStatement,
    pub(super) member_tick_read: PreparedStatement,
    pub(super) member_told_delivered: PreparedStatement,
    pub(super) member_told_read: PreparedStatement,
    pub(super) member_missed: PreparedStatement,
    pub(super) members_of: PreparedStatement,
    pub(super) member_of: PreparedStatement,
    pub(super) user_put: PreparedStatement,
    pub(super) user_of: PreparedStatement,
    pub(super) recent_put: PreparedStatement,
    pub(super) dedupe_put: PreparedStatement,
    pub(super) dedupe_of: PreparedStatement,
    pub(super) document_of: PreparedStatement,
    pub(super) document_slot: PreparedStatement,
    pub(super) document_begin: PreparedStatement,
    pub(super) document_write: PreparedStatement,
    pub(super) otk_put: PreparedStatement,
    pub(super) otk_replace: PreparedStatement,
    pub(super) otk_of: PreparedStatement,
    pub(super) otk_take: PreparedStatement,
    pub(super) otk_list: PreparedStatement,
}

impl Statements {
    pub(super) async fn prepare(session: &Session) -> Result<Self, OpenError> {
        use Repeat::{Freely, Never};
        let cql = |repeat, text| one(session, repeat, text);
        let row = "SELECT seq, record, body FROM log WHERE conv = ? AND bucket = ? AND seq";
        let register =
            |column: &str| format!("UPDATE member USING TIMESTAMP ? SET {column} = ? WHERE conv = ? AND user = ?");
        let of_device =
            |column: &str| format!("UPDATE member USING TIMESTAMP ? SET {column}[?] = ? WHERE conv = ? AND user = ?");
        let member = "SELECT user, read, read_counted, read_shown, told_delivered, told_read, delivered, tick_delivered, \
                      tick_read, missed FROM member WHERE conv = ?";
        Ok(Self {
            log_begin: cql(Never, "UPDATE log SET bhead = ?, kind = ? WHERE conv = ? AND bucket = ? IF bhead = null")
                .await?,
            log_enter: cql(Never, "UPDATE log SET bhead = ? WHERE conv = ? AND bucket = ? IF bhead = null").await?,
            log_advance: cql(Never, "UPDATE log SET bhead = ? WHERE conv = ? AND bucket = ? IF bhead = ?").await?,
            log_insert: cql(Never, "INSERT INTO log (conv, bucket, seq, record) VALUES (?, ?, ?, ?)").await?,
            log_insert_cut: cql(Never, "INSERT INTO log (conv, bucket, seq, record, body) VALUES (?, ?, ?, ?, ?)")
                .await?,
            log_slot: serial(cql(Never, &format!("{row} = ?")).await?),
            log_head: serial(
                cql(Never, "SELECT DISTINCT conv, bucket, bhead FROM log WHERE conv = ? AND bucket = ?").await?,
            ),
            log_up: cql(Freely, &format!("{row} >= ? AND seq <= ?")).await?,
            log_down: cql(Freely, &format!("{row} >= ? AND seq <= ? ORDER BY seq DESC")).await?,
            log_kind: cql(Freely, "SELECT DISTINCT conv, bucket, kind FROM log WHERE conv = ? AND bucket = 0").await?,
            log_erase: cql(Never, "UPDATE log SET record = ? WHERE conv = ? AND bucket = ? AND seq = ? IF EXISTS")
                .await?,
            log_erase_body: cql(
                Never,
                "UPDATE log SET body = null WHERE conv = ? AND bucket = ? AND seq = ? IF EXISTS",
            )
            .await?,
            body_put: cql(Never, "INSERT INTO body (id, bytes) VALUES (?, ?) IF NOT EXISTS").await?,
            body_of: cql(Freely, "SELECT bytes FROM body WHERE id = ?").await?,
            body_erase: cql(Never, "DELETE FROM body WHERE id = ? IF EXISTS").await?,
            conv_put: cql(Freely, "INSERT INTO conv (conv, as_of, snapshot) VALUES (?, ?, ?) USING TIMESTAMP ?")
                .await?,
            conv_of: cql(Freely, "SELECT snapshot FROM conv WHERE conv = ?").await?,
            member_delivered: cql(Freely, &of_device("delivered")).await?,
            member_read: cql(Freely, &register("read")).await?,
            member_read_counted: cql(Freely, &register("read_counted")).await?,
            member_read_shown: cql(Freely, &register("read_shown")).await?,
            member_tick_delivered: cql(Freely, &of_device("tick_delivered")).await?,
            member_tick_read: cql(Freely, &of_device("tick_read")).await?,
            member_told_delivered: cql(Freely, &register("told_delivered")).await?,
            member_told_read: cql(Freely, &register("told_read")).await?,
            member_missed: cql(Freely, &of_device("missed")).await?,
            members_of: cql(Freely, member).await?,
            member_of: cql(Freely, &format!("{member} AND user = ?")).await?,
            user_put: cql(Freely, "INSERT INTO user (user, conv) VALUES (?, ?)").await?,
            user_of: cql(Freely, "SELECT conv FROM user WHERE user = ?").await?,
            recent_put: cql(Freely, "INSERT INTO recent (vnode, minute, conv) VALUES (?, ?, ?)").await?,
            dedupe_put: cql(
                Freely,
                "INSERT INTO dedupe (conv, sender, device, cmid, seq) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            dedupe_of: cql(Freely, "SELECT seq FROM dedupe WHERE conv = ? AND sender = ? AND device = ? AND cmid = ?")
                .await?,
            document_of: cql(Freely, "SELECT version, bytes FROM document WHERE user = ? AND which = ?").await?,
            document_slot: serial(
                cql(Never, "SELECT version, bytes FROM document WHERE user = ? AND which = ?").await?,
            ),
            document_begin: cql(
                Never,
                "INSERT INTO document (user, which, version, bytes) VALUES (?, ?, 1, ?) IF NOT EXISTS",
            )
            .await?,
            document_write: cql(
                Never,
                "UPDATE document SET version = ?, bytes = ? WHERE user = ? AND which = ? IF version = ?",
            )
            .await?,
            otk_put: cql(Never, "INSERT INTO otk (user, device, number, bytes) VALUES (?, ?, ?, ?) IF NOT EXISTS")
                .await?,
            otk_replace: cql(Never, "UPDATE otk SET bytes = ? WHERE user = ? AND device = ? AND number = ? IF EXISTS")
                .await?,
            otk_of: cql(Freely, "SELECT bytes FROM otk WHERE user = ? AND device = ? AND number = ?").await?,
            otk_take: cql(Never, "DELETE FROM otk WHERE user = ? AND device = ? AND number = ? IF bytes = ?").await?,
            otk_list: cql(Freely, "SELECT number FROM otk WHERE user = ? AND device = ?").await?,
        })
    }
}

async fn one(session: &Session, repeat: Repeat, text: &str) -> Result<PreparedStatement, OpenError> {
    let prepared = session.prepare(text).await;
    let mut prepared = prepared.map_err(|error| OpenError::Schema(format!("{text}: {error}")))?;
    prepared.set_page_size(PAGE);
    // Where its condition holds, a conditional write is seen by a quorum before it is answered.
    prepared.set_consistency(Consistency::LocalQuorum);
    prepared.set_serial_consistency(Some(SerialConsistency::LocalSerial));
    prepared.set_is_idempotent(repeat == Repeat::Freely);
    if repeat == Repeat::Never {
        prepared.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy)));
    }
    Ok(prepared)
}

fn serial(mut prepared: PreparedStatement) -> PreparedStatement {
    prepared.set_consistency(Consistency::LocalSerial);
    prepared
}
