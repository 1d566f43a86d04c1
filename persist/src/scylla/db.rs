//! The connection: statements in, rows and verdicts out. Holds no policy but how much is asked at a time.

use super::failure::Failed;
use super::known::Known;
use super::recent::Covered;
use super::statements::Statements;
use super::stats::Stats;
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Statements of one request under way at a time.
const AT_ONCE: usize = 16;

/// Everything that answers a request needs; shared by all that are under way.
pub(super) struct Db {
    pub(super) session: Session,
    pub(super) statements: Statements,
    pub(super) stats: Arc<Stats>,
    pub(super) known: Mutex<Known>,
    pub(super) covered: Mutex<Covered>,
    /// Permits of work that nobody waits for.
    pub(super) upkeep: Arc<Semaphore>,
}

impl Db {
    /// One page, and where the next one begins.
    pub(super) async fn page<R>(
        &self,
        statement: &PreparedStatement,
        values: &[CqlValue],
        from: PagingState,
    ) -> Result<(Vec<R>, Option<PagingState>), Failed>
    where
        R: for<'f> DeserializeRow<'f, 'f>,
    {
        let (result, next) = self.session.execute_single_page(statement, values, from).await?;
        Ok((rows(result)?, following(next)))
    }

    /// All rows. For what is bounded by its meaning: a conversation's members, a user's conversations.
    pub(super) async fn all<R>(&self, statement: &PreparedStatement, values: &[CqlValue]) -> Result<Vec<R>, Failed>
    where
        R: for<'f> DeserializeRow<'f, 'f>,
    {
        let mut all = Vec::new();
        let mut next = Some(PagingState::start());
        while let Some(from) = next {
            let (rows, after) = self.page(statement, values, from).await?;
            all.extend(rows);
            next = after;
        }
        Ok(all)
    }

    /// The only row, or the first.
    pub(super) async fn first<R>(&self, statement: &PreparedStatement, values: &[CqlValue]) -> Result<Option<R>, Failed>
    where
        R: for<'f> DeserializeRow<'f, 'f>,
    {
        let result = self.session.execute_unpaged(statement, values).await?;
        Ok(rows(result)?.into_iter().next())
    }

    /// A write that may be repeated.
    pub(super) async fn write(&self, statement: &PreparedStatement, values: &[CqlValue]) -> Result<(), Failed> {
        self.session.execute_unpaged(statement, values).await?;
        Ok(())
    }

    /// Writes of one partition that may be repeated, as one.
    pub(super) async fn write_all(&self, writes: Vec<(&PreparedStatement, Vec<CqlValue>)>) -> Result<(), Failed> {
        let (statements, values): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
        let mut batch = Batch::new(BatchType::Unlogged);
        for statement in statements {
            batch.append_statement(statement.clone());
        }
        batch.set_is_idempotent(true);
        self.session.batch(&batch, values).await?;
        Ok(())
    }

    /// A conditional write: whether its condition held.
    pub(super) async fn write_if(&self, statement: &PreparedStatement, values: &[CqlValue]) -> Result<bool, Failed> {
        applied(self.session.execute_unpaged(statement, values).await?)
    }

    /// Conditional writes of one partition: all or none. Whether the conditions held.
    pub(super) async fn write_all_if(&self, writes: Vec<(&PreparedStatement, Vec<CqlValue>)>) -> Result<bool, Failed> {
        let (statements, values): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
        let mut batch = Batch::new(BatchType::Logged);
        for statement in &statements {
            batch.append_statement((*statement).clone());
        }
        if let Some(first) = statements.first() {
            // A batch does not take over how its statements are to be sent.
            batch.set_retry_policy(first.get_retry_policy().cloned());
            batch.set_serial_consistency(first.get_serial_consistency());
            if let Some(consistency) = first.get_consistency() {
                batch.set_consistency(consistency);
            }
        }
        batch.set_is_idempotent(false);
        applied(self.session.batch(&batch, values).await?)
    }
}

/// Does the work for each item, some at a time; the results in the order of the items, or the first failure.
pub(super) async fn each<T, R, F>(items: Vec<T>, work: impl Fn(T) -> F) -> Result<Vec<R>, Failed>
where
    R: Send + 'static,
    F: Future<Output = Result<R, Failed>> + Send + 'static,
{
    let mut running = JoinSet::new();
    let mut done: Vec<Option<R>> = items.iter().map(|_| None).collect();
    let mut items = items.into_iter().enumerate();
    loop {
        while running.len() < AT_ONCE
            && let Some((at, item)) = items.next()
        {
            let work = work(item);
            running.spawn(async move { (at, work.await) });
        }
        let Some(joined) = running.join_next().await else { break };
        let (at, result) = joined.map_err(|error| Failed::Unknown(error.to_string()))?;
        done[at] = Some(result?);
    }
    Ok(done.into_iter().flatten().collect())
}

/// All rows of an answer.
pub(super) fn rows<R>(result: QueryResult) -> Result<Vec<R>, Failed>
where
    R: for<'f> DeserializeRow<'f, 'f>,
{
    let result = result.into_rows_result().map_err(Failed::unreadable)?;
    let rows = result.rows::<R>().map_err(Failed::unreadable)?;
    rows.collect::<Result<_, _>>().map_err(Failed::unreadable)
}

fn following(next: PagingStateResponse) -> Option<PagingState> {
    match next.into_paging_control_flow() {
        ControlFlow::Continue(state) => Some(state),
        ControlFlow::Break(()) => None,
    }
}

/// What a conditional write says of itself. Cassandra answers with other columns when it refuses, so that the verdict is found
/// by its name.
fn applied(result: QueryResult) -> Result<bool, Failed> {
    let unknown = |text: String| Failed::Unknown(text);
    let result = result.into_rows_result().map_err(|error| unknown(error.to_string()))?;
    let at = result.column_specs().get_by_name("[applied]").map(|(at, _)| at);
    let row = result.first_row::<Row>().map_err(|error| unknown(error.to_string()))?;
    match at.and_then(|at| row.columns.get(at)) {
        Some(Some(CqlValue::Boolean(applied))) => Ok(*applied),
        _ => Err(unknown("a conditional write without a verdict".into())),
    }
}
