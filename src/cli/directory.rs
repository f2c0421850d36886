//! `portway directory`, and `portway directory tenant|host|gateway|token add|list|rm`.

mod show;

use crate::config::{self, Config};
use crate::daemon::sockets::api_path;
use crate::directory::client::Client;
use crate::directory::types::{GatewaySpec, HostSpec, Role, TenantSpec, TokenSpec};
use crate::model::{Invalid, NodeName, PoolName, Pools, PublicKey, ShardId, TenantName, TenantShard};
use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use zeroize::Zeroizing;

/// Run the registry of tenants, gateways, hosts, keys and inner addresses, or ask one.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// The YAML file; `examples/directory.yaml` is a documented one.
    #[arg(long, short)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Tenants, with their shards and inner addresses.
    Tenant(Of<TenantAdd, TenantName>),
    /// Function hosts.
    Host(Of<HostAdd, NodeName>),
    /// Gateways, and which shards they serve.
    Gateway(Of<GatewayAdd, NodeName>),
    /// Who may do what.
    Token(Of<TokenAdd, String>),
}

#[derive(Debug, clap::Args)]
struct Of<Add: clap::Args, Name: Clone + Send + Sync + std::str::FromStr<Err: std::error::Error + Send + Sync> + 'static> {
    #[command(subcommand)]
    action: Action<Add, Name>,
}

#[derive(Debug, Subcommand)]
enum Action<Add: clap::Args, Name: Clone + Send + Sync + std::str::FromStr<Err: std::error::Error + Send + Sync> + 'static> {
    /// Add one, or make an existing one what is said.
    Add {
        #[command(flatten)]
        add: Add,
        #[command(flatten)]
        at: At,
    },
    /// Those that you may see.
    List {
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: At,
    },
    /// Remove one.
    Rm {
        name: Name,
        #[command(flatten)]
        at: At,
    },
}

/// Which directory, and as whom.
#[derive(Debug, clap::Args)]
pub struct At {
    /// Where it listens: https://directory.example:9473. Without: the one on this machine, over its socket, as its operator.
    #[arg(long, env = "PORTWAY_DIRECTORY")]
    url: Option<String>,
    /// Who certifies it, in PEM. Without: whom this machine trusts.
    #[arg(long, env = "PORTWAY_DIRECTORY_CA")]
    ca: Option<PathBuf>,
    /// A file that holds your token.
    #[arg(long, env = "PORTWAY_DIRECTORY_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// As `runtime_dir` in the directory's configuration.
    #[arg(long, env = "PORTWAY_RUNTIME_DIR", default_value = "/run/portway")]
    runtime_dir: PathBuf,
}

#[derive(Debug, clap::Args)]
struct TenantAdd {
    name: TenantName,
    /// Where its inner addresses come from.
    #[arg(long)]
    inner: IpNet,
    /// Bits of the prefix that a host gets in each shard.
    #[arg(long, default_value_t = 32)]
    host_prefix: u8,
    /// The numbers of its shards.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    shards: Vec<u16>,
    /// A pool of outbound addresses, and its shards: `partners=1,2`; again for each.
    /// Without, those that it has stay.
    #[arg(long = "egress", value_name = "POOL=SHARDS", value_parser = pool)]
    egress: Vec<(PoolName, Shards)>,
    /// It has no pools any more.
    #[arg(long, conflicts_with = "egress")]
    no_egress: bool,
}

/// Of a pool.
type Shards = BTreeSet<ShardId>;

fn pool(text: &str) -> Result<(PoolName, Shards), Invalid> {
    let invalid = |why: &str| Invalid(format!("{text:?} is no pool: {why}; write a name and shards, such as partners=1,2"));
    let (name, shards) = text.split_once('=').ok_or_else(|| invalid("it lacks `=`"))?;
    let shard = |number: &str| number.parse().map(ShardId).map_err(|_| invalid(&format!("{number:?} is no shard")));
    Ok((name.parse()?, shards.split(',').map(shard).collect::<Result<_, _>>()?))
}

/// None: as before.
fn pools(all: Vec<(PoolName, Shards)>) -> anyhow::Result<Option<Pools>> {
    let (count, pools) = (all.len(), BTreeMap::from_iter(all));
    anyhow::ensure!(pools.len() == count, "a pool is written twice: write all of its shards at once, such as --egress partners=1,2");
    Ok((count > 0).then(|| Pools::new(pools)))
}

#[derive(Debug, clap::Args)]
struct HostAdd {
    name: NodeName,
    /// A tenant that it may serve; again for each.
    #[arg(long = "tenant", required = true)]
    tenants: Vec<TenantName>,
    /// For a host that does not enrol: its public key, as `wg pubkey` prints it.
    #[arg(long)]
    key: Option<PublicKey>,
}

#[derive(Debug, clap::Args)]
struct GatewayAdd {
    name: NodeName,
    /// A shard that it serves, TENANT or TENANT/SHARD; again for each.
    #[arg(long = "shard")]
    shards: Vec<TenantShard>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TokenRole {
    Operator,
    Gateway,
    /// A host's enrolment, once.
    Enroll,
    /// May look at the fleet: what an autoscaler needs.
    Observer,
}

#[derive(Debug, clap::Args)]
struct TokenAdd {
    #[arg(long)]
    role: TokenRole,
    /// Operator, observer: what it may see, and the operator change (none: everything). Enrolment: what the host may serve. Again for each.
    #[arg(long = "tenant")]
    tenants: Vec<TenantName>,
    /// The gateway whose token it is.
    #[arg(long)]
    gateway: Option<NodeName>,
    /// The only host that it is good for; such a token may give a host that there is a new key.
    #[arg(long)]
    host: Option<NodeName>,
    /// From now; 1h for enrolments, others never.
    #[arg(long, value_parser = super::duration)]
    expires: Option<Duration>,
}

impl At {
    pub fn client(&self) -> anyhow::Result<Client> {
        let token = self.token_file.as_ref().map(|file| {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the token in {}", file.display()))?;
            anyhow::Ok(Zeroizing::new(Zeroizing::new(text).trim().to_owned()))
        });
        let token = token.transpose()?;
        match &self.url {
            Some(_) if token.is_none() => bail!("who are you? name a file with your token by `--token-file`"),
            Some(url) => Ok(Client::new(url, self.ca.as_deref(), token)?),
            None => {
                let socket = api_path(&self.runtime_dir, "directory");
                if !socket.exists() {
                    let remedy = "name another machine's by `--url`, or this one's `--runtime-dir`";
                    bail!("no directory has its socket at {}: {remedy}", socket.display());
                }
                let client = Client::local(&socket)?;
                Ok(token.map_or(client.clone(), |token| client.with_token(token.as_str())))
            }
        }
    }
}

impl Args {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match (self.config, self.what) {
            (Some(file), None) => match super::daemon::load(&file)? {
                Config::Directory(config) => serve(file, config),
                other => bail!("{} configures no directory: run `portway {}`", file.display(), other.role()),
            },
            (_, Some(what)) => super::block_on(what.run()).map(|()| ExitCode::SUCCESS),
            (None, None) => bail!("say which directory: `--config FILE` runs one, `tenant`, `host`, `gateway` and `token` ask one"),
        }
    }
}

fn serve(file: PathBuf, config: config::Directory) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(crate::directory::run(&file, config))
}

impl What {
    async fn run(self) -> anyhow::Result<()> {
        match self {
            What::Tenant(of) => match of.action {
                Action::Add { add, at } => {
                    let shards = add.shards.into_iter().map(ShardId).collect();
                    let spec = TenantSpec {
                        inner: add.inner,
                        host_prefix: add.host_prefix,
                        shards,
                        egress: add.no_egress.then(Pools::default).or(pools(add.egress)?),
                    };
                    show::tenants(&[at.client()?.put_tenant(&add.name, &spec).await?], false)
                }
                Action::List { json, at } => show::tenants(&at.client()?.tenants().await?, json),
                Action::Rm { name, at } => removed(&name, at.client()?.remove_tenant(&name).await?),
            },
            What::Host(of) => match of.action {
                Action::Add { add, at } => {
                    let spec = HostSpec { tenants: add.tenants.into_iter().collect(), public_key: add.key };
                    show::hosts(&[at.client()?.put_host(&add.name, &spec).await?], false)
                }
                Action::List { json, at } => show::hosts(&all_hosts(&at.client()?).await?, json),
                Action::Rm { name, at } => removed(&name, at.client()?.remove_host(&name).await?),
            },
            What::Gateway(of) => match of.action {
                Action::Add { add, at } => {
                    let spec = GatewaySpec { shards: add.shards.into_iter().collect() };
                    show::gateways(&[at.client()?.put_gateway(&add.name, &spec).await?], &[], false)
                }
                Action::List { json, at } => {
                    let client = at.client()?;
                    show::gateways(&client.gateways().await?, &client.shards().await?, json)
                }
                Action::Rm { name, at } => removed(&name, at.client()?.remove_gateway(&name).await?),
            },
            What::Token(of) => match of.action {
                Action::Add { add, at } => {
                    let minted = at.client()?.add_token(&add.spec()).await?;
                    // The token alone, so that it can go into a file.
                    println!("{}", minted.token);
                    eprintln!("token {}{}; it is shown this once", minted.id, minted.expires.map(show::until).unwrap_or_default());
                    Ok(())
                }
                Action::List { json, at } => show::tokens(&at.client()?.tokens().await?, json),
                Action::Rm { name, at } => removed(&name, at.client()?.remove_token(&name).await?),
            },
        }
    }
}

fn removed(name: &impl std::fmt::Display, (): ()) -> anyhow::Result<()> {
    println!("removed {name}");
    Ok(())
}

async fn all_hosts(client: &Client) -> anyhow::Result<Vec<crate::directory::types::Host>> {
    let (mut hosts, mut after) = (Vec::new(), None);
    loop {
        let page = client.hosts(after.as_ref()).await?;
        hosts.extend(page.hosts);
        after = page.after;
        if after.is_none() {
            return Ok(hosts);
        }
    }
}

impl TokenAdd {
    fn spec(self) -> TokenSpec {
        let role = match self.role {
            TokenRole::Operator => Role::Operator,
            TokenRole::Gateway => Role::Gateway,
            TokenRole::Enroll => Role::Enroll,
            TokenRole::Observer => Role::Observer,
        };
        let tenants = (!self.tenants.is_empty()).then(|| self.tenants.into_iter().collect());
        let expires_s = self.expires.map(|time| u32::try_from(time.as_secs().max(1)).unwrap_or(u32::MAX));
        TokenSpec { role, tenants, gateway: self.gateway, host: self.host, expires_s }
    }
}
