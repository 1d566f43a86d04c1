//! Reading the log: rows of any range in either direction, over the buckets that they lie in, and the bodies that were cut off.

use super::db::{Db, each};
use super::failure::Failed;
use super::rows::{Row, blob, bucket_after, buckets, number, unsigned};
use crate::Record;
use ringpost_proto::id::{ConversationId, Seq};
use scylla::response::PagingState;
use scylla::value::CqlValue;
use std::sync::Arc;

/// As the statements over `log` select it.
type Cells = (i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// A row without a record does not come from an append.
fn row(bucket: i64, (seq, record, body): Cells) -> Result<Row, Failed> {
    let record = record.ok_or_else(|| Failed::unreadable(format!("no record in the row of {seq}")))?;
    Ok(Row { bucket, seq: unsigned(seq), record, body })
}

/// What to read of a log.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) from: Seq,
    pub(super) to: Seq,
    pub(super) upwards: bool,
    /// Rows that are fetched at a time.
    pub(super) page: i32,
}

impl Db {
    /// Gives the records of a range to `each`, in its direction, until that says `false`.
    pub(super) async fn scan(
        &self,
        id: &ConversationId,
        range: Range,
        mut each: impl FnMut(Row) -> Result<bool, Failed> + Send,
    ) -> Result<(), Failed> {
        let mut buckets: Vec<_> = buckets(range.from, range.to).collect();
        if !range.upwards {
            buckets.reverse();
        }
        for bucket in buckets {
            let mut next = Some(PagingState::start());
            while let Some(from) = next {
                let (rows, after) = self.rows(id, bucket, range, from).await?;
                for row in rows {
                    if !each(row)? {
                        return Ok(());
                    }
                }
                next = after;
            }
        }
        Ok(())
    }

    /// One page of what a bucket holds of a range.
    pub(super) async fn rows(
        &self,
        id: &ConversationId,
        bucket: i64,
        range: Range,
        from: PagingState,
    ) -> Result<(Vec<Row>, Option<PagingState>), Failed> {
        let mut statement =
            if range.upwards { self.statements.log_up.clone() } else { self.statements.log_down.clone() };
        statement.set_page_size(range.page);
        let values = [
            blob(&id.0),
            CqlValue::BigInt(bucket),
            CqlValue::BigInt(number(range.from)),
            CqlValue::BigInt(number(range.to)),
        ];
        let (cells, next) = self.page::<Cells>(&statement, &values, from).await?;
        Ok((cells.into_iter().map(|cells| row(bucket, cells)).collect::<Result<_, _>>()?, next))
    }

    /// The record at a position; `None`: there is none.
    pub(super) async fn row_at(&self, id: &ConversationId, seq: Seq) -> Result<Option<Row>, Failed> {
        let mut found = None;
        let range = Range { from: seq, to: seq, upwards: false, page: 1 };
        self.scan(id, range, |row| {
            found = Some(row);
            Ok(false)
        })
        .await?;
        Ok(found)
    }

    /// The slot after `head`, once everything that was under way in its partition has ended.
    pub(super) async fn slot(&self, id: &ConversationId, head: Seq) -> Result<Option<Row>, Failed> {
        let bucket = bucket_after(head);
        let key = [blob(&id.0), CqlValue::BigInt(bucket), CqlValue::BigInt(number(head + 1))];
        let cells = self.first::<Cells>(&self.statements.log_slot, &key).await?;
        cells.map(|cells| row(bucket, cells)).transpose()
    }

    /// The record of a row, with its body.
    pub(super) async fn whole(&self, row: &Row) -> Result<Record, Failed> {
        let Some(body) = row.body.as_ref().filter(|_| row.is_cut()) else { return row.shell() };
        let bytes: Option<(Option<Vec<u8>>,)> = self.first(&self.statements.body_of, &[blob(body)]).await?;
        match bytes.and_then(|(bytes,)| bytes) {
            Some(bytes) => row.whole(&bytes),
            // Taken back since the row was read, or damage.
            None => Err(Failed::unreadable(format!("the body of record {} is not there", row.seq))),
        }
    }

    /// The records of rows, with their bodies.
    pub(super) async fn wholes(self: &Arc<Self>, rows: Vec<Row>) -> Result<Vec<Arc<Record>>, Failed> {
        if rows.iter().all(|row| row.body.is_none()) {
            return rows.iter().map(|row| Ok(Arc::new(row.shell()?))).collect();
        }
        each(rows, |row| {
            let db = Arc::clone(self);
            async move { Ok(Arc::new(db.whole(&row).await?)) }
        })
        .await
    }
}
