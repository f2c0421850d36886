//! `portway cni`, and the program when it is called `portway-cni`: what a container runtime starts for each of its containers.

use crate::cni::{self, Call, Code, Config, Container, Error, Member};
use crate::daemon::{client, sockets};
use crate::kernel;
use crate::model::IfName;
use reqwest::Method;
use serde_json::Value;
use std::fs::File;
use std::io::{IsTerminal, Read, stdin};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// The `type` of the plugin: runtimes look for a program of this name.
const NAME: &str = "portway-cni";
/// No configuration is longer, in bytes; `prevResult` is the most of it.
const LONGEST: u64 = 4 << 20;

pub fn is_called() -> bool {
    std::env::args_os().next().is_some_and(|program| Path::new(&program).file_name().is_some_and(|name| name == NAME))
}

pub fn run() -> ExitCode {
    // Whoever calls this without a command has nothing to tell, and may not close standard input.
    let told = std::env::var_os("CNI_COMMAND").is_some() && !stdin().is_terminal();
    let read = if told { read(stdin()) } else { Ok(Vec::new()) };
    let (given, read) = read.map_or_else(|error| (Vec::new(), Err(error)), |given| (given, Ok(())));
    let call = read.and_then(|()| Call::read(|name| std::env::var(name).ok()));
    let done = call.and_then(|call| {
        let done = super::block_on(async { Ok(answer(&call, &given, patience(&call)).await) });
        done.unwrap_or_else(|error| Err(Error::new(Code::Io, format!("{error:#}"))))
    });
    match done {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(result)) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}", error.to_json(&cni::version_of(&given)));
            ExitCode::FAILURE
        }
    }
}

fn read(from: impl Read) -> Result<Vec<u8>, Error> {
    let mut given = Vec::new();
    let read = from.take(LONGEST + 1).read_to_end(&mut given);
    read.map_err(|error| Error::new(Code::Io, format!("cannot read the configuration from standard input: {error}")))?;
    if given.len() as u64 > LONGEST {
        let why = format!("the configuration on standard input is longer than {} MiB: no network's is", LONGEST >> 20);
        return Err(Error::new(Code::Undecodable, why));
    }
    Ok(given)
}

/// How long the daemon may take for an answer. Runtimes give up after minutes, and tell less. STATUS they ask while they are asked for their own, and kubelet
/// takes a runtime for dead that has not answered for 30 s.
fn patience(call: &Call) -> Duration {
    Duration::from_secs(if *call == Call::Status { 3 } else { 30 })
}

async fn answer(call: &Call, given: &[u8], patience: Duration) -> Result<Option<Value>, Error> {
    let read = || Config::read(given, call).map(|config| Asked { config, patience });
    match call {
        Call::Version => Ok(Some(cni::versions(&cni::version_of(given)))),
        Call::Add(member) => add(read()?, member).await.map(Some),
        Call::Check(member) => check(&read()?, member).await.map(|()| None),
        Call::Del(container) => delete(&read()?, container).await.map(|()| None),
        Call::Gc => collect(&read()?).await.map(|()| None),
        Call::Status => status(&read()?).await.map(|()| None),
    }
}

/// The result is that of the plugins before.
async fn add(asked: Asked, member: &Member) -> Result<Value, Error> {
    let config = &asked.config;
    let body = config.wanted(&member.args)?.body(&host_end(config, member)?);
    succeeded(asked.daemon(Method::PUT, &path(&config.attachment(&member.container)), Some(&body)).await?)?;
    Ok(asked.config.prev_result.unwrap_or_default())
}

async fn check(asked: &Asked, member: &Member) -> Result<(), Error> {
    let (wanted, interface) = (asked.config.wanted(&member.args)?, host_end(&asked.config, member)?);
    let name = asked.config.attachment(&member.container);
    let stands = match asked.daemon(Method::GET, &path(&name), None).await? {
        (404, _) => return Err(Error::new(Code::Mismatch, format!("the container is not attached: there is no attachment {name}"))),
        answer => succeeded(answer)?,
    };
    match wanted.differences(&interface, &stands).as_slice() {
        [] => Ok(()),
        some => Err(Error::new(Code::Mismatch, format!("the attachment {name} is another: {}", some.join(", ")))),
    }
}

async fn delete(asked: &Asked, container: &Container) -> Result<(), Error> {
    match asked.detach(&asked.config.attachment(container)).await {
        // An attachment ends with its interface, whether or not a daemon looks, and that goes with the container. An error would keep the plugins before from
        // taking back what they have made, until there is a daemon again, on a machine that may not get one.
        Err(Failed::Away(why)) => {
            eprintln!("{NAME}: {why}; the attachment ends with the container's interface");
            Ok(())
        }
        // The attachment is forgotten, and the daemon goes on with the rest by itself.
        Err(Failed::Later(why)) => {
            eprintln!("{NAME}: {why}");
            Ok(())
        }
        done => Ok(done?),
    }
}

async fn collect(asked: &Asked) -> Result<(), Error> {
    let standing = succeeded(asked.daemon(Method::GET, "/v1/attachments", None).await?)?;
    let names = standing.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str());
    let mut done = Ok(());
    for name in asked.config.stale(names)? {
        let one = asked.detach(name).await;
        let away = matches!(one, Err(Failed::Away(_)));
        done = done.and(one);
        // Each of the others would be waited for as long.
        if away {
            break;
        }
    }
    Ok(done?)
}

/// Whether containers can be added, as far as that is all tenants' matter: a daemon answers, which it does from the end of its first pass on. What of a pass fails
/// is a tenant's or a container's: `portway_ready` tells it, and the ADD that it concerns. The runtime would take the whole machine out of service for it.
async fn status(asked: &Asked) -> Result<(), Error> {
    let not = |why| Err(Error::new(Code::NotAvailable, why));
    match asked.daemon(Method::GET, "/healthz", None).await {
        Ok((200, _)) => Ok(()),
        Ok((_, said)) => not(format!("`portway host` can attach nothing now: {}", text(&said).trim_end())),
        Err(away) => not(Error::from(away).message),
    }
}

/// The host's end of the container's interface: of those that the plugins before have named, the one whose other end is in the container.
fn host_end(config: &Config, member: &Member) -> Result<IfName, Error> {
    let named = config.before()?.on_host()?;
    let all = named.iter().map(IfName::as_str).collect::<Vec<_>>().join(", ");
    let netns = member.netns.display();
    let file = File::open(&member.netns)
        .map_err(|error| Error::new(Code::InvalidEnvironment, format!("CNI_NETNS: cannot open {netns}: {error}")))?;
    let ends = kernel::ends_in(file.as_fd(), named).map_err(|error| Error::new(Code::Io, format!("{:#}", anyhow::Error::from(error))))?;
    match <[IfName; 1]>::try_from(ends) {
        Ok([end]) => Ok(end),
        Err(ends) if ends.is_empty() => {
            Err(Error::new(Code::Mismatch, format!("of {all} in `prevResult` none has its other end in {netns}")))
        }
        Err(_) => Err(Error::new(Code::Mismatch, format!("of {all} in `prevResult` several have their other end in {netns}"))),
    }
}

fn path(attachment: &str) -> String {
    format!("/v1/attachments/{attachment}")
}

/// Why the daemon did not do what it was asked.
enum Failed {
    /// It did not answer.
    Away(String),
    /// It cannot for now, or has not done all of it.
    Later(String),
    Refused(Error),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Away(why) | Failed::Later(why) => Error::new(Code::TryAgainLater, why),
            Failed::Refused(error) => error,
        }
    }
}

/// What a call is about.
struct Asked {
    config: Config,
    /// How long the host's daemon may take for an answer.
    patience: Duration,
}

impl Asked {
    /// Asks the host's daemon: status and answer.
    async fn daemon(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value), Failed> {
        let runtime_dir = &self.config.runtime_dir;
        let socket = sockets::api_path(runtime_dir, "host");
        let socket = socket.display();
        match tokio::time::timeout(self.patience, client::call(runtime_dir, "host", method, path, body)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let error = anyhow::Error::from(error);
                Err(Failed::Away(format!(
                    "no `portway host` answers on {socket}: is it running, and is `runtimeDir` its `runtime_dir`? ({error:#})"
                )))
            }
            Err(_) => Err(Failed::Away(format!("`portway host` on {socket} gave no answer for {:?}", self.patience))),
        }
    }

    /// Ends an attachment, if it is there.
    async fn detach(&self, name: &str) -> Result<(), Failed> {
        match self.daemon(Method::DELETE, &path(name), None).await? {
            (404, _) => Ok(()),
            answer => succeeded(answer).map(drop),
        }
    }
}

fn succeeded((status, answer): (u16, Value)) -> Result<Value, Failed> {
    match status {
        200..300 => Ok(answer),
        // A step that the kernel refused, which is tried again; a shard or pool that is not served for now.
        500 | 503 => Err(Failed::Later(text(&answer["error"]))),
        _ => Err(Failed::Refused(Error::new(Code::Refused, text(&answer["error"])))),
    }
}

fn text(said: &Value) -> String {
    said.as_str().map_or_else(|| said.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests;
