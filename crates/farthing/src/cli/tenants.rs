//! Which tenants a command works for: the tenant files it is given, and the one that it picks of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use super::environment::Environment;
use crate::config::{self, Tenant, TenantFileError};

/// The tenant file that is used where none is named.
const USUAL_FILE: &str = "farthing.toml";

/// The example that is used where there is no file at all.
const EXAMPLE: &str = include_str!("../../../../examples/assistant.toml");
const EXAMPLE_NAME: &str = "examples/assistant.toml";

/// The arguments of a command that works for one tenant.
#[derive(Debug, Args)]
pub(super) struct TenantArguments {
    /// A tenant file; without any, ./farthing.toml, or else a built-in example. May be repeated.
    #[arg(long = "tenant-file", env = "FARTHING_TENANT_FILES", value_delimiter = ',', value_name = "FILE")]
    tenant_files: Vec<PathBuf>,
    /// The tenant, where there are several.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
}

impl TenantArguments {
    /// The one tenant that the command is for.
    pub(super) fn one(&self) -> Result<Tenant, Failure> {
        self.one_of(&[])
    }

    /// The one tenant that the command is for, where it takes tenant files by position too, which then count alone.
    pub(super) fn one_of(&self, files: &[PathBuf]) -> Result<Tenant, Failure> {
        let mut tenants: BTreeMap<String, Tenant> = BTreeMap::new();
        let files = if files.is_empty() { &self.tenant_files } else { files };
        for (_, tenant) in load(files).map_err(|errors| Failure::Failed(in_lines(&errors)))? {
            tenants.insert(tenant.catalog.tenant.to_string(), tenant);
        }
        let names = tenants.keys().cloned().collect::<Vec<_>>().join(", ");
        let found = match &self.tenant {
            Some(name) => tenants.remove(name),
            None if tenants.len() == 1 => tenants.pop_first().map(|(_, tenant)| tenant),
            None => return Err(Failure::Usage(format!("say with --tenant which of these tenants is meant: {names}"))),
        };
        found.ok_or_else(|| Failure::Usage(format!("--tenant names none of the tenants there are: {names}")))
    }
}

/// Reads tenant files, each with its name: the ones given, `farthing.toml` where none is, or else the built-in example.
///
/// # Errors
/// The mistakes of all files.
pub(super) fn load(files: &[PathBuf]) -> Result<Vec<(String, Tenant)>, Vec<TenantFileError>> {
    let environment = Environment::read().map_err(|error| {
        let remedy = "mend it, or take the file away".to_owned();
        vec![TenantFileError { file: "environment".to_owned(), position: None, problem: error.to_string(), remedy }]
    })?;
    let environment = |name: &str| environment.get(name);
    let usual = [PathBuf::from(USUAL_FILE)];
    let files = match files {
        [] if Path::new(USUAL_FILE).exists() => &usual,
        [] => {
            eprintln!("no tenant file is given and there is no {USUAL_FILE} here: using the built-in {EXAMPLE_NAME}");
            let tenant = config::parse(EXAMPLE, EXAMPLE_NAME, &environment)?;
            return Ok(vec![(EXAMPLE_NAME.to_owned(), tenant)]);
        }
        files => files,
    };
    let mut tenants: Vec<(String, Tenant)> = Vec::new();
    let mut errors = Vec::new();
    for path in files {
        let file = path.display().to_string();
        match config::load(path, &environment) {
            Err(found) => errors.extend(found),
            Ok(tenant) => {
                let name = &tenant.catalog.tenant;
                if let Some((other, _)) = tenants.iter().find(|(_, other)| other.catalog.tenant == *name) {
                    errors.push(TenantFileError {
                        file,
                        position: None,
                        problem: format!("tenant `{name}` is already defined by {other}"),
                        remedy: "give one of them another name".to_owned(),
                    });
                } else {
                    tenants.push((file, tenant));
                }
            }
        }
    }
    if errors.is_empty() { Ok(tenants) } else { Err(errors) }
}

/// Mistakes, one on each line.
pub(super) fn in_lines(errors: &[TenantFileError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
