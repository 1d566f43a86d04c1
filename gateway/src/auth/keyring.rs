//! Which keys are in use: those of the key file and those of the sets that are fetched, and when to get them anew.
//!
//! Owns: what was read and fetched last, and the schedule of each source. Guarantees: the set in use is replaced as a whole;
//! what cannot be read, fetched or understood changes nothing; a key that its file or set no longer holds is gone with the
//! next reading of it. Never does: I/O, but for the first reading of the key file; time is an argument, in milliseconds of a
//! clock that does not go back. The control plane drives it.

use super::jwks::Set;
use super::key_file::{KeyFile, Material, UrlSource, shown};
use super::keys::Named;
use super::schedule::Schedule;
use super::{KeyFileError, KeySet, Verifier};
use crate::config::Config;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// See the module.
pub struct Keyring {
    verifier: Arc<Verifier>,
    path: Option<PathBuf>,
    issuer: String,
    dev: bool,
    every_ms: u64,
    /// What the key file was when it was last understood.
    material: Option<Material>,
    file: KeyFile,
    remotes: Vec<Remote>,
    next_id: u64,
    /// The last error of the key file, so that it is told once.
    error: Option<String>,
}

/// One source and what it answered last.
struct Remote {
    id: u64,
    source: Arc<UrlSource>,
    schedule: Schedule,
    keys: Vec<Named>,
    unused: usize,
    /// Whether it has ever been fetched.
    answered: bool,
    said: String,
}

/// A fetch to make: its outcome goes to [`Keyring::fetched`].
pub struct Fetch {
    pub id: u64,
    pub source: Arc<UrlSource>,
}

impl Keyring {
    /// The keys that the settings ask for: those of `token_keys`, and with `dev` the development key. What must be fetched
    /// is due at 0 ms.
    pub fn load(config: &Config) -> Result<Self, KeyFileError> {
        let verifier = Arc::new(Verifier::new(KeySet::default(), &config.token_audience));
        let mut ring = Self {
            verifier,
            path: config.token_keys.clone(),
            issuer: config.token_issuer.clone(),
            dev: config.dev,
            every_ms: u64::from(config.jwks_refresh_ms),
            material: None,
            file: KeyFile::default(),
            remotes: Vec::new(),
            next_id: 0,
            error: None,
        };
        if let Some(path) = &ring.path {
            let material = Material::read(path)?;
            ring.take_up(material, 0)?;
        }
        ring.publish();
        Ok(ring)
    }

    pub fn verifier(&self) -> &Arc<Verifier> {
        &self.verifier
    }

    /// The key file, to be read again and again.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The key file was read. Gives a line for the log where there is news.
    pub fn reread(&mut self, read: Result<Material, KeyFileError>, now_ms: u64) -> Option<String> {
        let outcome = match read {
            Ok(material) if self.material.as_ref() == Some(&material) => Ok(false),
            Ok(material) => self.take_up(material, now_ms).map(|()| true),
            Err(error) => Err(error),
        };
        let counters = self.verifier.counters();
        counters.file_failing.store(u64::from(outcome.is_err()), Relaxed);
        match outcome {
            Ok(changed) => {
                let repaired = self.error.take().is_some();
                if changed {
                    self.publish();
                }
                let (keys, sources) = (self.file.keys.len(), self.remotes.len());
                (changed || repaired)
                    .then(|| format!("token keys: the key file was read; keys: {keys}, urls: {sources}"))
            }
            Err(error) => {
                counters.file_failures.fetch_add(1, Relaxed);
                let error = error.to_string();
                let news = self.error.as_ref() != Some(&error);
                let line = format!("token keys: {error}; the keys read before stay");
                self.error = Some(error);
                news.then_some(line)
            }
        }
    }

    fn take_up(&mut self, material: Material, now_ms: u64) -> Result<(), KeyFileError> {
        self.file = material.parse(&self.issuer)?;
        self.material = Some(material);
        let mut before = std::mem::take(&mut self.remotes);
        for source in &self.file.sources {
            // A source that stays keeps its keys and its schedule.
            let remote = match before.iter().position(|remote| remote.source == *source) {
                Some(at) => before.swap_remove(at),
                None => {
                    self.next_id += 1;
                    Remote::new(self.next_id, Arc::clone(source), Schedule::new(self.every_ms, now_ms))
                }
            };
            self.remotes.push(remote);
        }
        Ok(())
    }

    /// The fetches to start now.
    pub fn due(&mut self, now_ms: u64) -> Vec<Fetch> {
        if self.verifier.take_wanted() {
            self.remotes.iter_mut().for_each(|remote| remote.schedule.ask(now_ms));
        }
        let due = self.remotes.iter_mut().filter_map(|remote| {
            let due = remote.schedule.start(now_ms);
            due.then(|| Fetch { id: remote.id, source: Arc::clone(&remote.source) })
        });
        due.collect()
    }

    /// A fetch ended: what was answered, or why nothing was. Gives a line for the log where there is news.
    pub fn fetched(&mut self, id: u64, answer: Result<Vec<u8>, String>, now_ms: u64) -> Option<String> {
        // None: the key file has dropped the source meanwhile.
        let remote = self.remotes.iter_mut().find(|remote| remote.id == id)?;
        let parsed = answer.and_then(|json| {
            Set::parse(&json, &remote.source.policy).map_err(|e| format!("the answer is no set of keys: {e}"))
        });
        let said = match parsed {
            Ok(set) => {
                let said = set.summary();
                (remote.keys, remote.unused) = (set.keys, set.unused.len());
                remote.answered = true;
                remote.schedule.succeeded(now_ms);
                said
            }
            Err(error) => {
                remote.schedule.failed(now_ms);
                self.verifier.counters().jwks_failures.fetch_add(1, Relaxed);
                format!("not fetched: {error}; its keys of before stay ({})", remote.keys.len())
            }
        };
        let line =
            (remote.said != said).then(|| format!("token keys: {}: {said}", shown(&remote.source.url.to_string())));
        remote.said = said;
        self.publish();
        line
    }

    /// Puts the set in use and tells the counters.
    fn publish(&self) {
        let mut set = KeySet::default();
        if self.dev {
            set = set.with_dev();
        }
        let all = self.file.keys.iter().chain(self.remotes.iter().flat_map(|remote| &remote.keys));
        let taken = all.map(|(id, key)| !set.add(id.clone(), Arc::clone(key)));
        let taken = taken.filter(|taken| *taken).count();
        let counters = self.verifier.counters();
        let unused: usize = self.remotes.iter().map(|remote| remote.unused).sum();
        counters.unused.store((unused + taken) as u64, Relaxed);
        counters.sources.store(self.remotes.len() as u64, Relaxed);
        let failing = self.remotes.iter().filter(|remote| remote.schedule.is_failing()).count();
        counters.jwks_failing.store(failing as u64, Relaxed);
        let oldest = self.remotes.iter().map(|remote| remote.schedule.fresh_ms()).min();
        counters.fresh_ms.store(oldest.unwrap_or(0), Relaxed);
        self.verifier.replace(set);
        // After the keys: whoever sees this sees them.
        let unanswered = self.remotes.iter().filter(|remote| !remote.answered);
        self.verifier.set_unanswered(unanswered.map(|it| shown(&it.source.url.to_string()).to_owned()).collect());
    }
}

impl Remote {
    fn new(id: u64, source: Arc<UrlSource>, schedule: Schedule) -> Self {
        Self { id, source, schedule, keys: Vec::new(), unused: 0, answered: false, said: String::new() }
    }
}

#[cfg(test)]
mod tests;
