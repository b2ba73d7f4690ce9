//! `farthing sandbox`: a Stripe that runs offline; and the one that `serve` and `demo` bring along for tenants without a
//! key.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::str::FromStr as _;

use clap::Args;
use sandbox::{Fault, Forward, Sandbox, Settings};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Failure, Outcome};
use crate::auth::{self, Secret};
use crate::connection::SandboxAddress;
use crate::server::told_to_stop;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where to listen: an address with a port; port 0 takes a free one, which the log names.
    #[arg(long, env = "FARTHING_SANDBOX_LISTEN", default_value = "127.0.0.1:12111", value_name = "ADDRESS")]
    listen: String,
    /// Keep everything in this file, so that it is there again after a restart; in memory where absent.
    #[arg(long, env = "FARTHING_SANDBOX_FILE", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Send every event of every world to this address too, as a webhook.
    #[arg(long, value_name = "URL", requires = "forward_secret")]
    forward_to: Option<String>,
    /// What to sign these with: whsec_...
    #[arg(long, env = "FARTHING_SANDBOX_FORWARD_SECRET", hide_env_values = true, value_name = "SECRET")]
    forward_secret: Option<String>,
    /// What to do wrong, such as `decline_next:code=card_declined,times=2` or `lose_webhook:type=payment_intent.succeeded`.
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<String>,
    /// Make ids a function of this number, so that runs can be compared.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// What links to its pages begin with; the address that a request was sent to where absent.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

/// How `serve` and `demo` bring a sandbox along.
#[derive(Debug, Args)]
pub(super) struct BuiltIn {
    /// Where the built-in sandbox listens, for tenants in test mode without a provider key; `off` for none.
    #[arg(long, env = "FARTHING_SANDBOX_LISTEN", default_value = "127.0.0.1:12111", value_name = "ADDRESS")]
    pub(super) sandbox_listen: String,
}

/// A place for a sandbox: the socket is there, or another process has it.
pub(super) struct Place {
    /// Where it will be, and what it will sign with.
    pub(super) address: SandboxAddress,
    listener: Option<TcpListener>,
}

/// A sandbox that is served beside something else.
pub(super) struct Served {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Served {
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.serving.await;
    }
}

pub(super) async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let mut settings = Settings {
        seed: arguments.seed,
        file: arguments.file,
        public_url: arguments.public_url,
        ..Settings::default()
    };
    for fault in &arguments.faults {
        let fault = Fault::from_str(fault).map_err(|error| Failure::Usage(format!("--fault: {error}")))?;
        settings.faults.push(fault);
    }
    if let Some((url, secret)) = arguments.forward_to.zip(arguments.forward_secret) {
        settings.forward_to.push(Forward { world: None, url, secret });
    }
    let listener = bind(&arguments.listen).await?;
    let sandbox = Sandbox::open(settings).map_err(|error| Failure::Failed(error.to_string()))?;
    let address = listener.local_addr().map_err(|error| Failure::Failed(format!("no address: {error}")))?;
    eprintln!(
        "farthing sandbox: http://{address} (Ctrl-C ends it). Point a Stripe client there with any key sk_test_...; each key\n\
         is a world of its own. Test cards, faults and the latest requests: http://{address}/"
    );
    let served = sandbox.serve(listener, told_to_stop()).await;
    served.map_err(|error| Failure::Failed(format!("the sandbox failed: {error}")))?;
    Ok(Outcome::Good)
}

impl BuiltIn {
    /// The sandbox that a running server has brought along.
    pub(super) fn elsewhere(&self) -> Option<SandboxAddress> {
        let url = format!("http://{}", self.sandbox_listen);
        // Nothing is told to a command, so it needs no secret.
        (self.sandbox_listen != "off").then(|| SandboxAddress { url, webhook_secret: Secret::new("whsec_of_nobody") })
    }

    /// Takes the place for a sandbox; nothing where there is to be none. A place that is taken is taken by the sandbox
    /// of another server on this machine, which serves this one as well; unless it is to be one's own: then any free
    /// port will do.
    pub(super) async fn place(&self, own: bool) -> Result<Option<Place>, Failure> {
        if self.sandbox_listen == "off" {
            return Ok(None);
        }
        let mut bound = TcpListener::bind(&self.sandbox_listen).await;
        if own && bound.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrInUse) {
            bound = TcpListener::bind("127.0.0.1:0").await;
        }
        let (listener, at) = match bound {
            Ok(listener) => {
                let at = listener.local_addr().map_err(|error| Failure::Failed(format!("no address: {error}")))?;
                (Some(listener), at.to_string())
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                tracing::warn!(event = "sandbox_elsewhere", address = self.sandbox_listen);
                (None, self.sandbox_listen.clone())
            }
            Err(error) => return Err(cannot_listen(&self.sandbox_listen, &error)),
        };
        let random =
            auth::key::generate(false).map_err(|error| Failure::Failed(format!("no random numbers: {error}")))?;
        let webhook_secret = Secret::new(format!("whsec_{}", random.expose()));
        Ok(Some(Place { address: SandboxAddress { url: format!("http://{at}"), webhook_secret }, listener }))
    }
}

impl Place {
    /// Serves a sandbox here that tells these worlds' events to farthing.
    pub(super) fn serve(self, forward_to: Vec<Forward>, file: Option<PathBuf>) -> Result<Option<Served>, Failure> {
        let Some(listener) = self.listener else { return Ok(None) };
        let sandbox = Sandbox::open(Settings { file, forward_to, ..Settings::default() });
        let sandbox = sandbox.map_err(|error| Failure::Failed(error.to_string()))?;
        tracing::info!(event = "sandbox", url = self.address.url);
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            sandbox.serve(listener, stopped).await
        });
        Ok(Some(Served { stop, serving }))
    }
}

/// Where a sandbox tells a tenant's events.
pub(super) fn forward(tenant: &str, farthing: &str, connection: &str, secret: &Secret) -> Forward {
    Forward {
        world: Some(tenant.to_owned()),
        url: format!("http://{farthing}/v1/connections/{connection}/webhook"),
        secret: secret.expose().to_owned(),
    }
}

async fn bind(address: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| cannot_listen(address, &error))
}

fn cannot_listen(address: &str, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot listen on {address}: {error}"))
}
