//! The program as people run it: the binary in a process of its own, in a directory of its own, on a given database.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The binary, with a directory to run in.
pub(crate) struct Program {
    directory: TempDir,
    database: String,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; nothing where a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it printed.
    pub(crate) out: String,
    /// What it said besides.
    pub(crate) err: String,
}

impl Program {
    /// The program on a database, by its address.
    pub(crate) fn on(database: impl Into<String>) -> Self {
        Self { directory: tempfile::tempdir().expect("a directory to run in"), database: database.into() }
    }

    /// Writes a file into its directory.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("the file can be written");
        path
    }

    /// The path of a file in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "")
    }

    /// Runs it to its end, with something on standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let file = self.file(".input", input);
        let mut command = self.command(arguments);
        command.stdin(std::fs::File::open(file).expect("the file was written"));
        ended(&mut command)
    }

    /// Starts it, and does not wait for it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("the program starts")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farthing"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| starts_with(name, "FARTHING_")) {
            command.env_remove(name);
        }
        command.env("FARTHING_DATABASE", &self.database).current_dir(self.directory.path()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

fn starts_with(name: &OsStr, prefix: &str) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(prefix))
}

fn ended(command: &mut Command) -> Ended {
    of(command.output().expect("the program runs"))
}

/// How a process that was started ended.
pub(crate) fn wait(child: Child) -> Ended {
    of(child.wait_with_output().expect("the process was started here"))
}

fn of(output: std::process::Output) -> Ended {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program prints UTF-8");
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

impl Ended {
    /// The value that a line of the output gives a name: `charges made    17,638`.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.out.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
    }

    /// Asserts that it ended so; shows all it said where it did not.
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self
    }
}

/// A file of the data that lies beside the repository.
pub(crate) fn shared_data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    assert!(
        path.exists(),
        "there is no {}: the folder `shared` with the data has to lie beside the repository",
        path.display()
    );
    path.to_str().expect("the path of the repository is UTF-8").to_owned()
}

/// The path of a file in the repository.
pub(crate) fn repository_file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    path.to_str().expect("the path of the repository is UTF-8").to_owned()
}
