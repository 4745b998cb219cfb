//! What people type.

mod default_state;
mod manager;
mod run;
mod schema;
mod status;
mod ticket;

use crate::acme;
use crate::config::ConfigFile;
use crate::config::keys::Key;
use crate::public::Public;
use crate::server::tls::files::Files;
use crate::server::{Sockets, StunAlt};
use anyhow::bail;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use shadowmesh_proto::version::{SPOKEN, Versions};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Port when none is named: free of root, and let out by more firewalls than a random one.
const DEFAULT_PORT: u16 = 8443;

const AFTER_HELP: &str = "\
Example:
  shadowmesh-relay                                          prints a ticket, smr1..., and runs
  shadowmesh-relay --public relay.example:443 --listen [::]:443 --listen [::]:8443
  shadowmesh-relay --listen [::]:443 --tls-cert fullchain.pem --tls-key privkey.pem
  shadowmesh-relay --listen [::]:443 --listen [::]:8443 --acme-domain relay.example
  a$ sudo shadowmesh up --relay smr1...                     makes a network on it

Exit codes: 0 done, 1 failed (with one sentence that says why), 2 wrong usage.
Environment: SHADOWMESH_RELAY_STATE stands in for --state; SHADOWMESH_LOG=debug makes it say more.";

/// ShadowMesh relay: introduces peers and forwards their encrypted packets until they have a direct link.
///
/// Without a command it runs. The first line it prints is its ticket, for `shadowmesh up --relay`.
#[derive(Debug, Parser)]
#[command(
    name = "shadowmesh-relay",
    version,
    args_conflicts_with_subcommands = false,
    disable_help_subcommand = true,
    after_help = AFTER_HELP
)]
pub struct Cli {
    /// Directory for the key and what is remembered [default: /var/lib/shadowmesh-relay; for who is not root, where that is not there,
    /// ~/.local/state/shadowmesh-relay]
    #[arg(long, global = true, value_name = "DIR", env = "SHADOWMESH_RELAY_STATE")]
    state: Option<PathBuf>,
    /// Settings from a file (TOML)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Default, Args)]
struct RunArgs {
    #[arg(
        long,
        value_name = "ADDR:PORT",
        help = "Address to listen on, TCP and UDP; may be repeated [default: [::]:8443, both families]"
    )]
    listen: Vec<SocketAddr>,
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        help = "What the ticket names, with wss:// before it where a reverse proxy adds TLS; `auto` looks for it [default: what was given last, else what is found]"
    )]
    public: Option<Public>,
    /// Certificate for wss://, served on the same ports as ws://: PEM, with its chain; read again when it changes
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its key: PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Get a certificate for this name by ACME and renew it, which agrees to the authority's terms; may be repeated. It comes to port 443
    #[arg(long, value_name = "DOMAIN", value_parser = domain, conflicts_with_all = ["tls_cert", "tls_key"])]
    acme_domain: Vec<String>,
    /// Whom the authority may write to
    #[arg(long, value_name = "ADDRESS")]
    acme_email: Option<String>,
    /// Directory of the authority [default: Let's Encrypt]
    #[arg(long, value_name = "URL", value_parser = directory)]
    acme_directory: Option<String>,
    /// Root certificates of the authority (PEM), where they are not public ones
    #[arg(long, value_name = "FILE")]
    acme_ca: Option<PathBuf>,
    /// Second STUN port [default: the one after the first]
    #[arg(long, value_name = "PORT")]
    stun_alt: Option<u16>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay (what happens without a command)
    #[command(after_help = "Example:\n  shadowmesh-relay run --listen [::]:443 --public relay.example:443")]
    Run(RunArgs),
    /// Print the ticket of the state directory
    #[command(
        after_help = "Example:\n  sudo shadowmesh-relay ticket\n  sudo shadowmesh-relay ticket --json | jq -r .ticket"
    )]
    Ticket {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show who is here and what was forwarded and dropped
    #[command(
        after_help = "Example:\n  sudo shadowmesh-relay status\n  sudo shadowmesh-relay status --json | jq .drops"
    )]
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a file of settings that explains each key, with its unit, its range and its default
    ///
    /// Everything in it is commented out. `--config FILE` takes such a file, as the service does with /etc/shadowmesh/relay.toml. It is read again on
    /// SIGHUP.
    #[command(
        after_help = "Example:\n  shadowmesh-relay config | grep -A 3 queue\n  shadowmesh-relay config > relay.toml && shadowmesh-relay --config relay.toml"
    )]
    Config,
    /// Print the JSON schema of what commands print with --json
    ///
    /// Of all of them, by the command's name, or of one. Fields may be added in any version; none is renamed or removed.
    #[command(
        after_help = "Example:\n  shadowmesh-relay schema status\n  shadowmesh-relay schema | jq 'keys'"
    )]
    Schema {
        /// Of which command, such as `status`
        #[arg(value_name = "COMMAND")]
        command: Option<String>,
    },
    /// Print the completions for a shell
    #[command(
        after_help = "Example:\n  shadowmesh-relay completions bash > /etc/bash_completion.d/shadowmesh-relay"
    )]
    Completions {
        /// Which
        shell: Shell,
    },
}

/// What holds after command line, file and memory were asked, in this order.
#[derive(Debug)]
struct Options {
    state: PathBuf,
    config: Option<PathBuf>,
    file: ConfigFile,
    sockets: Sockets,
    public: Option<Public>,
    tls: Option<Tls>,
    versions: Versions,
    /// Keys of the file that do not count, and the flag that does in the place of each.
    by_flag: Vec<(Key, &'static str)>,
}

/// Where the certificate comes from.
#[derive(Debug, Clone)]
enum Tls {
    Files(Files),
    Acme(acme::Config),
}

impl Tls {
    fn gather(args: &RunArgs, file: &ConfigFile) -> anyhow::Result<Option<Self>> {
        let or = |given: &Option<PathBuf>, file: &Option<PathBuf>| given.clone().or_else(|| file.clone());
        let (cert, key) = (or(&args.tls_cert, &file.tls_cert), or(&args.tls_key, &file.tls_key));
        let mut domains = args.acme_domain.clone();
        if domains.is_empty() && args.tls_cert.is_none() && args.tls_key.is_none() {
            domains = file.acme_domains.clone().unwrap_or_default();
        }
        let of_acme = [
            (args.acme_email.is_some() || file.acme_email.is_some(), "acme_email"),
            (args.acme_directory.is_some() || file.acme_directory.is_some(), "acme_directory"),
            (args.acme_ca.is_some() || file.acme_ca.is_some(), "acme_ca"),
        ];
        if domains.is_empty()
            && file.acme_domains.as_ref().is_none_or(Vec::is_empty)
            && let Some((_, key)) = of_acme.into_iter().find(|(is_given, _)| *is_given)
        {
            let flag = key.replace('_', "-");
            bail!(
                "{key} (--{flag}) without a domain to get a certificate for: name that with --acme-domain, or with acme_domains in the file of settings"
            )
        }
        match (cert, key, domains.as_slice()) {
            // Those of the command line come in the place of those of the file.
            (_, _, [_, ..])
                if !args.acme_domain.is_empty() || (file.tls_cert.is_none() && file.tls_key.is_none()) =>
            {
                Ok(Some(Self::Acme(acme::Config {
                    directory: args
                        .acme_directory
                        .clone()
                        .or_else(|| file.acme_directory.clone())
                        .unwrap_or_else(|| acme::LETS_ENCRYPT.to_owned()),
                    domains,
                    email: args.acme_email.clone().or_else(|| file.acme_email.clone()),
                    roots: or(&args.acme_ca, &file.acme_ca),
                })))
            }
            (_, _, [_, ..]) => bail!(
                "the file of settings has both tls_cert and acme_domains: a certificate of one's own, or one by ACME; remove one of them"
            ),
            (Some(cert), Some(key), []) => Ok(Some(Self::Files(Files { cert, key }))),
            (None, None, []) => Ok(None),
            (Some(_), None, []) => bail!(
                "a TLS certificate without its key: name that with --tls-key, or with tls_key in the file of settings"
            ),
            (None, Some(_), []) => bail!(
                "a TLS key without its certificate: name that with --tls-cert, or with tls_cert in the file of settings"
            ),
        }
    }
}

fn directory(text: &str) -> Result<String, &'static str> {
    if acme::is_directory(text) { Ok(text.to_owned()) } else { Err("no https URL") }
}

fn domain(text: &str) -> Result<String, &'static str> {
    if acme::is_domain(text) { Ok(text.to_owned()) } else { Err("no domain such as relay.example.org") }
}

impl Options {
    fn gather(
        state: PathBuf,
        config: Option<PathBuf>,
        args: RunArgs,
        versions: Versions,
    ) -> anyhow::Result<Self> {
        let file = match &config {
            Some(path) => ConfigFile::read(path)?,
            None => ConfigFile::default(),
        };
        let by_flag = args.keys();
        let tls = Tls::gather(&args, &file)?;
        let listen = if args.listen.is_empty() {
            file.listen
                .clone()
                .unwrap_or_else(|| vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT))])
        } else {
            args.listen
        };
        let stun_alt = args.stun_alt.or(file.stun_alt).map_or(StunAlt::Next, StunAlt::Port);
        let public = args.public.or_else(|| file.public.clone());
        let sockets = Sockets { listen, stun_alt };
        Ok(Self { state, config, file, sockets, public, tls, by_flag, versions })
    }
}

impl Cli {
    /// Does what was typed.
    ///
    /// # Errors
    /// One sentence: what, why, what to do.
    pub fn execute(self) -> anyhow::Result<()> {
        self.execute_speaking(SPOKEN)
    }

    /// The same of a relay that speaks these versions of the protocol, and not those that this program does: what stands in for an older or a
    /// newer one in tests.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn execute_speaking(self, versions: Versions) -> anyhow::Result<()> {
        let Self { state, config, run, command } = self;
        let state = state.unwrap_or_else(default_state::default_state);
        let gather = |state, config, args| Options::gather(state, config, args, versions);
        match command {
            None => run::execute(gather(state, config, run)?),
            Some(Command::Run(args)) => run::execute(gather(state, config, run.overridden_by(args))?),
            Some(Command::Ticket { json }) => ticket::execute(gather(state, config, run)?, json),
            Some(Command::Status { json }) => status::execute(&state, json),
            Some(Command::Schema { command }) => schema::execute(command.as_deref()),
            Some(Command::Config) => say(ConfigFile::example().trim_end()),
            Some(Command::Completions { shell }) => {
                clap_complete::generate(
                    shell,
                    &mut Self::command(),
                    "shadowmesh-relay",
                    &mut std::io::stdout(),
                );
                Ok(())
            }
        }
    }
}

impl RunArgs {
    /// The keys of the file in whose place something was given, and by which flag.
    fn keys(&self) -> Vec<(Key, &'static str)> {
        let given = [
            (!self.listen.is_empty(), Key::Listen, "--listen"),
            (self.public.is_some(), Key::Public, "--public"),
            (self.tls_cert.is_some(), Key::TlsCert, "--tls-cert"),
            (self.tls_key.is_some(), Key::TlsPrivate, "--tls-key"),
            (!self.acme_domain.is_empty(), Key::AcmeDomains, "--acme-domain"),
            (self.acme_email.is_some(), Key::AcmeEmail, "--acme-email"),
            (self.acme_directory.is_some(), Key::AcmeDirectory, "--acme-directory"),
            (self.acme_ca.is_some(), Key::AcmeCa, "--acme-ca"),
            (self.stun_alt.is_some(), Key::StunAlt, "--stun-alt"),
        ];
        given.into_iter().filter(|(is_given, ..)| *is_given).map(|(_, key, flag)| (key, flag)).collect()
    }

    /// Options may stand before or after `run`; those after it win.
    fn overridden_by(self, later: Self) -> Self {
        Self {
            listen: if later.listen.is_empty() { self.listen } else { later.listen },
            public: later.public.or(self.public),
            tls_cert: later.tls_cert.or(self.tls_cert),
            tls_key: later.tls_key.or(self.tls_key),
            acme_domain: if later.acme_domain.is_empty() { self.acme_domain } else { later.acme_domain },
            acme_email: later.acme_email.or(self.acme_email),
            acme_directory: later.acme_directory.or(self.acme_directory),
            acme_ca: later.acme_ca.or(self.acme_ca),
            stun_alt: later.stun_alt.or(self.stun_alt),
        }
    }
}

/// Prints a line at once: whoever waits for it may be a pipe.
fn say(line: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_says_what_it_does_and_has_an_example() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for command in std::iter::once(&command).chain(command.get_subcommands()) {
            let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = help.split_once("Example").map(|(_, rest)| rest);
            assert!(example.is_some_and(|rest| rest.contains(name)), "{name}: {help}");
            assert!(command.get_about().is_some(), "{name}");
            assert!(command.get_arguments().all(|argument| argument.get_help().is_some()), "{name}");
        }
    }
}
