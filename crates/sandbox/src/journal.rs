//! The journal: a file of JSON lines, one for each changed document, replayed and rewritten without what is outdated at the
//! start. A change is in the operating system's hands before its answer is sent: it survives the process, not the machine.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::world::World;
use crate::{OpenError, Settings};

/// One changed document; no value says that it is gone.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) world: String,
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) value: Option<(Value, Value)>,
}

impl Line {
    fn render(&self) -> String {
        let (document, hidden) = self.value.clone().unwrap_or_default();
        let mut line = json!({"world": self.world, "kind": self.kind, "id": self.id, "document": document});
        if !hidden.is_null() {
            line["hidden"] = hidden;
        }
        line.to_string()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut line: Value = serde_json::from_str(text).ok()?;
        let document = line["document"].take();
        let hidden = line["hidden"].take();
        Some(Self {
            world: line["world"].as_str()?.to_owned(),
            kind: line["kind"].as_str()?.to_owned(),
            id: line["id"].as_str()?.to_owned(),
            value: (!document.is_null()).then_some((document, hidden)),
        })
    }
}

/// Where changes are written to.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Option<Mutex<Writer>>,
    /// Held as long as the journal is open, so that no other sandbox writes it.
    _lock: Option<File>,
}

#[derive(Debug)]
struct Writer {
    file: File,
    /// How long the file is, in bytes.
    length: u64,
}

impl Writer {
    /// Appends whole lines. If that fails half way, the half is cut off again.
    fn append(&mut self, text: &str) -> std::io::Result<()> {
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += u64::try_from(text.len()).unwrap_or(0);
        Ok(())
    }
}

impl Journal {
    /// A journal that keeps nothing.
    pub(crate) fn none() -> Self {
        Self { file: None, _lock: None }
    }

    /// Reads the file, makes the worlds as they were, and rewrites it in place.
    pub(crate) fn open(path: &Path, settings: &Arc<Settings>) -> Result<(Self, BTreeMap<String, World>), OpenError> {
        let failed = |source| OpenError::File { path: path.to_owned(), source };
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = File::create(PathBuf::from(name)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut worlds = BTreeMap::new();
        if path.exists() {
            replay(path, settings, &mut worlds)?;
        }
        let fresh = path.with_extension("compacting");
        let mut writer = BufWriter::new(File::create(&fresh).map_err(failed)?);
        for line in worlds.values().flat_map(World::all_lines) {
            writeln!(writer, "{}", line.render()).map_err(failed)?;
        }
        let file = writer.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&fresh, path).map_err(failed)?;
        let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let journal = Self { file: Some(Mutex::new(Writer { file, length })), _lock: Some(lock) };
        Ok((journal, worlds))
    }

    /// Writes what a world has changed, and makes it final. If that fails, it is undone.
    pub(crate) fn commit(&self, world: &mut World) -> std::io::Result<()> {
        if !world.is_changed() {
            return Ok(());
        }
        if let Some(file) = &self.file {
            let mut text = String::new();
            for line in world.changed_lines() {
                text.push_str(&line.render());
                text.push('\n');
            }
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = file.append(&text) {
                world.undo();
                return Err(error);
            }
        }
        world.committed();
        Ok(())
    }
}

fn replay(path: &Path, settings: &Arc<Settings>, worlds: &mut BTreeMap<String, World>) -> Result<(), OpenError> {
    let failed = |source| OpenError::File { path: path.to_owned(), source };
    let mut lines = BufReader::new(File::open(path).map_err(failed)?).split(b'\n').enumerate().peekable();
    while let Some((index, text)) = lines.next() {
        let text = text.map_err(failed)?;
        match Line::parse(&String::from_utf8_lossy(&text)) {
            Some(line) => worlds
                .entry(line.world.clone())
                .or_insert_with_key(|name| World::new(name, settings.clone()))
                .replay(line),
            // A process that was killed may have written half of its last line, whose request was not answered.
            None if lines.peek().is_none() => {}
            None => return Err(OpenError::Line { path: path.to_owned(), line: index + 1 }),
        }
    }
    Ok(())
}
