//! What makes a directory a store: its lock, the id that its files carry, and the incarnation that clients hear of: the id,
//! until the directory is put back from a backup. Then another one is drawn into the file `incarnation`, of the same form: what
//! clients believe to have may be of a log that went on after the backup.
//!
//! The file `identity`, version 1, little endian: magic 8 bytes, version u32, id 16 bytes, CRC-32C over that u32.

use super::wal::{Entropy, OpenError};
use crate::files::Files;
use crate::record::{Cursor, RecordError};
use std::io;
use std::path::Path;

const MAGIC: &[u8; 8] = b"rpostID\0";
const VERSION: u32 = 1;
const CHECKED: usize = 28;

/// Held as long as the store is open.
pub(super) type Lock = Box<dyn Send + Sync>;

/// Makes the directory if need be and takes its lock.
pub(super) fn lock(files: &dyn Files, dir: &Path) -> Result<Lock, OpenError> {
    files.create_dir(dir).map_err(OpenError::io("make", dir))?;
    let path = dir.join("lock");
    files.lock(&path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse(dir.to_owned()),
        _ => OpenError::io("lock", &path)(error),
    })
}

/// The incarnation: drawn once, when the store is made.
pub(super) fn incarnation(files: &dyn Files, dir: &Path, entropy: &mut Entropy) -> Result<[u8; 16], OpenError> {
    let path = dir.join("identity");
    let names = files.list(dir).map_err(OpenError::io("list", dir))?;
    if names.iter().any(|name| name == "identity") {
        // The process before this one may have been killed before its last names were durable; what is now built on them
        // must not outlive them.
        files.sync_dir(dir).map_err(OpenError::io("sync", dir))?;
        return read(files, &path);
    }
    if names.iter().any(|name| name.starts_with("wal-") && name.ends_with(".log")) {
        return Err(OpenError::Identity(path));
    }
    let new = path.with_extension("new");
    if names.iter().any(|name| name == "identity.new") {
        files.remove(&new).map_err(OpenError::io("remove", &new))?;
    }
    draw(files, dir, &path, entropy)
}

/// What clients hear of; `own`: the id.
pub(super) fn told(files: &dyn Files, dir: &Path, own: [u8; 16]) -> Result<[u8; 16], OpenError> {
    let names = files.list(dir).map_err(OpenError::io("list", dir))?;
    match names.iter().any(|name| name == "incarnation") {
        true => read(files, &dir.join("incarnation")),
        false => Ok(own),
    }
}

/// Draws another incarnation for a store that was put back. Its lock must be held.
pub(super) fn renew(files: &dyn Files, dir: &Path, entropy: &mut Entropy) -> Result<[u8; 16], OpenError> {
    read(files, &dir.join("identity"))?;
    let path = dir.join("incarnation");
    let new = path.with_extension("new");
    let names = files.list(dir).map_err(OpenError::io("list", dir))?;
    if names.iter().any(|name| name == "incarnation.new") {
        files.remove(&new).map_err(OpenError::io("remove", &new))?;
    }
    draw(files, dir, &path, entropy)
}

fn draw(files: &dyn Files, dir: &Path, path: &Path, entropy: &mut Entropy) -> Result<[u8; 16], OpenError> {
    let new = path.with_extension("new");
    let drawn = (u128::from(entropy()) << 64 | u128::from(entropy())).to_le_bytes();
    let file = files.create(&new).map_err(OpenError::io("create", &new))?;
    file.write_at(&encode(drawn), 0).map_err(OpenError::io("write", &new))?;
    file.sync_data().map_err(OpenError::io("sync", &new))?;
    files.rename(&new, path).map_err(OpenError::io("rename", &new))?;
    files.sync_dir(dir).map_err(OpenError::io("sync", dir))?;
    Ok(drawn)
}

fn read(files: &dyn Files, path: &Path) -> Result<[u8; 16], OpenError> {
    let mut bytes = [0; CHECKED + 4];
    let file = files.open(path).map_err(OpenError::io("open", path))?;
    let len = file.read_at(&mut bytes, 0).map_err(OpenError::io("read", path))?;
    match decode(&bytes[..len]) {
        Ok((VERSION, incarnation)) => Ok(incarnation),
        Ok((version, _)) => Err(OpenError::Version { what: path.display().to_string(), version }),
        Err(_) => Err(OpenError::Identity(path.to_owned())),
    }
}

fn encode(incarnation: [u8; 16]) -> Vec<u8> {
    let mut out = [MAGIC.as_slice(), &VERSION.to_le_bytes(), &incarnation].concat();
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Result<(u32, [u8; 16]), RecordError> {
    let checked = Cursor(bytes).take(CHECKED)?;
    let mut from = Cursor(bytes);
    let (magic, version, incarnation): ([u8; 8], [u8; 4], [u8; 16]) = (from.array()?, from.array()?, from.array()?);
    if magic != *MAGIC || from.array()? != crc32c::crc32c(checked).to_le_bytes() {
        return Err(RecordError::Field("identity"));
    }
    Ok((u32::from_le_bytes(version), incarnation))
}
