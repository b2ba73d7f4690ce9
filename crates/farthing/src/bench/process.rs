//! The servers under load: processes of this same program, on free ports of loopback, ended with the run.

use std::net::SocketAddr;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use super::{BenchError, Memory};

/// What the servers log: where they serve, and what goes wrong.
const LOG: &str = "warn,farthing::server=info,farthing::bench=info";

/// A server in a process of its own.
#[derive(Debug)]
pub(super) struct Server {
    process: Child,
    /// Where it listens.
    pub(super) address: SocketAddr,
}

impl Server {
    /// Starts this program with these arguments and waits until it logs where it serves. The settings go by environment:
    /// an address with a password in it must not stand in the list of processes.
    pub(super) async fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self, BenchError> {
        let program = std::env::current_exe().map_err(BenchError::Process)?;
        let mut process = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .env("FARTHING_LOG", LOG)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::Process)?;
        let Some(log) = process.stderr.take() else { return Err(BenchError::Ended(String::new())) };
        let mut log = BufReader::new(log).lines();
        let mut said = Vec::new();
        while let Some(line) = log.next_line().await.map_err(BenchError::Process)? {
            if let Some(address) = serving_at(&line) {
                tokio::spawn(pass_on(log));
                return Ok(Self { process, address });
            }
            said.push(line);
        }
        Err(BenchError::Ended(said.join("\n")))
    }

    /// # Errors
    /// `Ended` where it does not run any more.
    pub(super) fn still_runs(&mut self) -> Result<(), BenchError> {
        match self.process.try_wait().map_err(BenchError::Process)? {
            None => Ok(()),
            Some(status) => Err(BenchError::Ended(status.to_string())),
        }
    }

    /// How much memory it has in use, where the system tells it as Linux does.
    pub(super) fn memory(&self) -> Option<Memory> {
        memory_of(&self.process.id()?.to_string())
    }
}

/// How much memory a process has in use, by its id or `self`, where the system tells it as Linux does.
pub(super) fn memory_of(process: &str) -> Option<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Memory { resident_kilobytes: value("VmRSS:")?, peak_kilobytes: value("VmHWM:")? })
}

/// The address in a line of the log that says where the server listens.
fn serving_at(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let serving = line.get("event")?.as_str()? == "serving";
    serving.then(|| line.get("address")?.as_str()?.parse().ok())?
}

/// Shows what a server goes on to say, so that it neither waits for a reader nor goes unheard.
async fn pass_on(mut log: Lines<BufReader<ChildStderr>>) {
    while let Ok(Some(line)) = log.next_line().await {
        eprintln!("{line}");
    }
}
