//! Running on other hosts: finding the workers and giving each its part.

use super::load::{Account, Found, Sessions};
use super::run::{Common, RunError};
use crate::fleet::member::Member;
use crate::fleet::secret::Secret;
use crate::fleet::words::Part;
use crate::load::Shared;
use crate::share::Share;
use ringpost_gateway::auth::{KeySet, SigningKey};
use std::path::Path;

/// More would make texts of one number.
const MOST_WORKERS: usize = 256;

impl Common {
    /// Refuses --workers where `what` was asked for.
    pub fn undivided(&self, what: &str) -> Result<(), RunError> {
        match self.workers.is_empty() {
            true => Ok(()),
            false => Err(RunError::Usage(format!("{what} is for one process: it cannot be divided among --workers"))),
        }
    }

    /// The key that --token-key or --private-key names.
    pub fn key(&self) -> Result<Option<SigningKey>, RunError> {
        if let (Some(path), Some(alg), Some(id)) = (&self.private_key, self.alg, &self.key) {
            let pem = std::fs::read(path).map_err(|error| RunError::File { path: path.clone(), error })?;
            let key = SigningKey::private(alg, id, &pem, &self.token_issuer, self.tenant.as_deref());
            return Ok(Some(key.map_err(|error| RunError::Key { path: path.clone(), error })?));
        }
        let Some(file) = &self.token_key else { return Ok(None) };
        let keys = KeySet::load(file, &self.token_issuer).map_err(crate::who::TokenError::from)?;
        let key = SigningKey::of(&keys, self.key.as_deref());
        Ok(Some(key.map_err(|error| RunError::Key { path: file.clone(), error })?))
    }
}

/// The secret of a file; empty without one.
pub fn secret(file: Option<&Path>) -> Result<Secret, RunError> {
    let read = file.map(|path| Secret::read(path).map_err(|error| RunError::File { path: path.to_owned(), error }));
    Ok(read.transpose()?.unwrap_or_default())
}

/// The share of a worker. It is an error that there is none for it.
pub fn share_of(sessions: &Sessions, index: u32, of: u32) -> Result<Share, RunError> {
    Share::of(sessions.users, sessions.unit, index, of).ok_or_else(|| {
        let Sessions { users, unit, .. } = sessions;
        RunError::Usage(format!("{of} workers have too few users: {users}, of whom {unit} are not to be split"))
    })
}

/// Connects to all workers, gives each its part, and waits until all are ready. Says what they plan.
pub fn engage(
    common: &Common,
    sessions: &Sessions,
    seed: u64,
    key: Option<SigningKey>,
) -> Result<Vec<Member>, RunError> {
    if !common.source.is_empty() {
        return Err(RunError::Usage("--source is of a host: give it to `flood worker` there".to_owned()));
    }
    if common.workers.len() > MOST_WORKERS {
        return Err(RunError::Usage(format!("{} workers, at most {MOST_WORKERS}", common.workers.len())));
    }
    let secret = secret(common.secret_file.as_deref())?;
    let arguments: Option<Vec<String>> = std::env::args_os().skip(1).map(|word| word.into_string().ok()).collect();
    let arguments = arguments.ok_or_else(|| RunError::Usage("the command line is not UTF-8".to_owned()))?;
    let of = common.workers.len() as u32;
    let shares = (0..of).map(|index| share_of(sessions, index, of)).collect::<Result<Vec<_>, _>>()?;
    let error = |worker: &str| {
        let worker = worker.to_owned();
        move |error| RunError::Worker { worker, error }
    };
    let connect = |(name, share): (&String, Share)| Member::connect(name, share.len(), &secret).map_err(error(name));
    let mut members: Vec<Member> = common.workers.iter().zip(shares).map(connect).collect::<Result<_, _>>()?;
    for (index, member) in (0..).zip(&mut members) {
        let part = Part { arguments: arguments.clone(), index, of, seed, key: key.clone() };
        member.assign(part).map_err(error(&member.name))?;
    }
    for member in &mut members {
        let plan = member.ready().map_err(error(&member.name))?;
        if !common.quiet {
            eprintln!("{}: {plan}", member.name);
        }
    }
    Ok(members)
}

/// Goes with a worker until the run is over.
pub fn follow<F: Found>(member: Member, shared: &Shared) -> Result<Option<Account<F>>, RunError> {
    let (worker, users) = (member.name.clone(), member.users);
    match member.follow(shared) {
        Ok(found) => Ok(found.map(|(found, connections, stolen)| Account {
            whose: Some(worker),
            users,
            found,
            connections,
            stolen,
        })),
        Err(error) => Err(RunError::Worker { worker, error }),
    }
}
