//! Whole nftables tables, through the program `nft`: the only process that Portway starts. Some milliseconds, and only
//! when the rules themselves change; elements go over netlink (element.rs).

use super::KernelError;
use super::element::{self, IPV4_WITH_KEY, SETS, TABLE};
use super::flow_table;
use super::lease;
use super::netlink::Netlink;
use super::store::Store;
use crate::plan::{Element, FLOW_TABLE, NftTable, Ruleset, SetName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::{Output, Stdio};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

mod text;
use text::{Declaration, declarations};

/// What we know of a table that we applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    revision: String,
    /// The hash of what `nft list` said right after.
    listing: String,
    /// The declarations of the sets that keep their elements, by name.
    sets: BTreeMap<String, String>,
}

pub type KnownTables = Store<BTreeMap<NftTable, Known>>;

/// What stands in a table of ours, apart from the elements of its [`SETS`] and of sets that lapse.
struct Listing {
    hash: String,
    /// As the marker chain says.
    revision: Option<String>,
    /// (kind as in `delete KIND`, name)
    objects: BTreeSet<(String, String)>,
}

/// The table in the kernel; none if there is none. It equals the ruleset that made it only if nothing changed it since.
pub async fn observe(known: &KnownTables, netlink: &mut Netlink, table: NftTable) -> Result<Option<Ruleset>, KernelError> {
    let Some(listing) = list(netlink, table).await? else { return Ok(None) };
    let untouched = known.get().get(&table).is_some_and(|k| Some(&k.revision) == listing.revision.as_ref() && k.listing == listing.hash);
    let revision = listing.revision.unwrap_or_else(|| "none".into());
    Ok(Some(Ruleset::observed(if untouched { revision } else { format!("{revision}+changed") })))
}

/// Makes the table what the ruleset says, in one transaction. Elements of its [`SETS`] stay, those of sets that lapse with the time that
/// they have left; all else is replaced.
pub async fn replace(known: &mut KnownTables, netlink: &mut Netlink, table: NftTable, ruleset: &Ruleset) -> Result<(), KernelError> {
    let declared = declarations(&ruleset.body);
    let sets = declared.iter().filter(|d| is_kept(d)).map(|d| (d.name.clone(), d.text.clone())).collect();
    let result = match list(netlink, table).await? {
        None => run(&create(table, ruleset)).await,
        // Kernels before 6.4 take a set's changed definition without a word and keep the old one: compare here.
        Some(standing) if keeps_sets(known.get().get(&table), &sets, &standing) => {
            match run(&update(table, ruleset, &declared, &standing)).await {
                Err(KernelError::Nft { .. }) => rebuild(netlink, table, ruleset, &declared).await,
                other => other,
            }
        }
        Some(_) => rebuild(netlink, table, ruleset, &declared).await,
    };
    result?;
    let Some(listing) = list(netlink, table).await? else { return Ok(()) };
    let revision = ruleset.revision().to_owned();
    known.change(|all| drop(all.insert(table, Known { revision, listing: listing.hash, sets })))
}

/// Whether it was applied, and none after it.
pub fn is_applied(known: &KnownTables, table: NftTable, ruleset: &Ruleset) -> bool {
    known.get().get(&table).is_some_and(|known| known.revision == ruleset.revision())
}

/// The table as it stands, made anew in one transaction: what was in its flow table is out, and finds the way back by itself.
pub async fn renew(netlink: &mut Netlink, table: NftTable) -> Result<(), KernelError> {
    if !element::table_exists(netlink, table).map_err(|refused| KernelError::read("nftables tables", refused))? {
        return Ok(());
    }
    let family = table.family();
    let text = successful("list a table", &["list", "table", family, TABLE], "").await?;
    run(&format!("delete table {family} {TABLE}\n{}", String::from_utf8_lossy(&text))).await
}

pub async fn remove(known: &mut KnownTables, table: NftTable) -> Result<(), KernelError> {
    // Declared first, as deleting a table that is not there is refused.
    run(&format!("table {0} {TABLE} {{\n}}\ndelete table {0} {TABLE}\n", table.family())).await?;
    known.change(|all| drop(all.remove(&table)))
}

fn is_kept(declaration: &Declaration) -> bool {
    matches!(declaration.kind.as_str(), "set" | "map") && (SETS.contains(&declaration.name.as_str()) || declaration.lapses())
}

/// Whether every set that stands and is declared anew is declared as it was.
fn keeps_sets(known: Option<&Known>, declared: &BTreeMap<String, String>, standing: &Listing) -> bool {
    let stands = |name: &String| standing.objects.iter().any(|(kind, n)| matches!(kind.as_str(), "set" | "map") && n == name);
    declared.iter().filter(|(name, _)| stands(name)).all(|(name, text)| known.and_then(|k| k.sets.get(name)) == Some(text))
}

/// A table that is not there yet.
fn create(table: NftTable, ruleset: &Ruleset) -> String {
    format!("table {} {TABLE} {{\n{}\nchain {} {{\n}}\n}}\n", table.family(), ruleset.body, ruleset.marker())
}

/// New rules in a table that keeps its sets: all rules go, then all that is not declared again, then the new body comes.
/// Sets that belong to the text go too, so that they have no other elements than it says. Base chains that stay are never
/// without their hook.
fn update(table: NftTable, ruleset: &Ruleset, declared: &[Declaration], standing: &Listing) -> String {
    let family = table.family();
    let stays = |kind: &str, name: &str| {
        declared.iter().any(|d| d.kind == kind && d.name == name && (matches!(kind, "chain" | "counter" | "flowtable") || is_kept(d)))
    };
    let mut script = format!("table {family} {TABLE} {{\n}}\nflush table {family} {TABLE}\n");
    // Chains before what their hooks or a map's verdicts may refer to.
    let (chains, others): (Vec<_>, Vec<_>) = standing.objects.iter().partition(|(kind, _)| kind == "chain");
    for (kind, name) in chains.into_iter().chain(others).filter(|(kind, name)| !stays(kind, name)) {
        let _ = writeln!(script, "delete {kind} {family} {TABLE} {name}");
    }
    script + &create(table, ruleset)
}

/// The table deleted and made anew with its elements, in one transaction: for when a set's definition changed.
async fn rebuild(netlink: &mut Netlink, table: NftTable, ruleset: &Ruleset, declared: &[Declaration]) -> Result<(), KernelError> {
    let elements = element::list(netlink, table).map_err(|refused| KernelError::read("nftables elements", refused))?;
    let mut fresh = format!("table {0} {TABLE} {{\n}}\ndelete table {0} {TABLE}\n{1}", table.family(), create(table, ruleset));
    if declared.iter().any(|declaration| declaration.kind == "flowtable") {
        let devices = flow_table::devices(netlink, table).map_err(|refused| KernelError::read("the flow table", refused))?;
        fresh.push_str(&flow_table::declaration(table, &devices));
    }
    let fits = |set: &SetName| declared.iter().any(|d| is_kept(d) && d.name == set.name);
    let leases = lease::list(netlink, table).map_err(|refused| KernelError::read("leases", refused))?;
    let leases: String = leases.iter().filter(|(set, _)| fits(set)).map(|(set, standing)| lease::add_elements(set, standing)).collect();
    let kept: String = elements.iter().filter(|(set, _)| fits(set)).map(|(set, elements)| add_elements(set, elements)).collect();
    // Elements that do not fit a new definition: whoever wants them adds them anew. Leases go last, as they are missed at once.
    let mut scripts = vec![format!("{fresh}{leases}{kept}"), format!("{fresh}{leases}"), fresh];
    scripts.dedup();
    let mut result = Ok(());
    for script in scripts {
        result = run(&script).await;
        if !matches!(result, Err(KernelError::Nft { .. })) {
            break;
        }
    }
    result
}

fn add_elements(set: &SetName, elements: &BTreeMap<Element, Option<crate::model::Mark>>) -> String {
    let mut script = format!("add element {} {TABLE} {} {{ ", set.table.family(), set.name);
    for (element, value) in elements {
        let _ = match element {
            Element::Address(ip) => write!(script, "{ip}"),
            Element::Sender { outer, key, inner } => write!(script, "{outer} . {IPV4_WITH_KEY:#x} . {key} . {}", integer(*inner)),
            Element::SenderPrefix { outer, key, inner } => {
                let (first, last) = (integer(inner.network()), integer(inner.broadcast()));
                write!(script, "{outer} . {IPV4_WITH_KEY:#x} . {key} . {first}-{last}")
            }
            Element::Interface(index) => write!(script, "{index}"),
            Element::InterfaceAddress(index, ip) => write!(script, "{index} . {ip}"),
            Element::InterfacePrefix(index, net) => write!(script, "{index} . {net}"),
        };
        script.push_str(&value.map(|mark| format!(" : {mark}, ")).unwrap_or_else(|| ", ".into()));
    }
    script + "}\n"
}

/// What nft takes for a packet's raw bytes.
fn integer(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => format!("{:#x}", u32::from(ip)),
        IpAddr::V6(ip) => format!("{:#x}", u128::from(ip)),
    }
}

async fn list(netlink: &mut Netlink, table: NftTable) -> Result<Option<Listing>, KernelError> {
    let read = |refused| KernelError::read("nftables tables", refused);
    if !element::table_exists(netlink, table).map_err(read)? {
        return Ok(None);
    }
    // Not `list table`, which reads all elements even where it prints none (nft 1.0.6): with tens of thousands that takes so long that it
    // is interrupted and begun anew each time that a lease is extended, and never ends.
    let mut listing = match json("list a table", &["-j", "-s", "-t", "list", "ruleset", table.family()]).await {
        // It may have gone since.
        Err(KernelError::Nft { .. }) if !element::table_exists(netlink, table).map_err(read)? => return Ok(None),
        other => other?,
    };
    forget_what_varies(&mut listing);
    let mut hash = Sha256::new();
    let mut objects = BTreeSet::new();
    let mut revision = None;
    for item in listing["nftables"].as_array().into_iter().flatten() {
        let Some((kind, object)) = item.as_object().and_then(|o| o.iter().next()).filter(|(kind, _)| *kind != "metainfo") else { continue };
        if (if kind == "table" { &object["name"] } else { &object["table"] }) != TABLE {
            continue;
        }
        hash.update(item.to_string());
        if !matches!(kind.as_str(), "table" | "rule") {
            let name = object["name"].as_str().unwrap_or_default().to_owned();
            if let Some(found) = name.strip_prefix(Ruleset::MARKER) {
                revision = Some(found.to_owned());
            }
            objects.insert((kind.clone(), name));
        }
    }
    // The listing is terse; the elements of sets that belong to the text belong into the hash.
    for set in element::sets(netlink, table).map_err(read)?.iter().filter(|set| !set.managed() && !set.lapses) {
        element::raw(netlink, table, set).map_err(read)?.iter().for_each(|element| hash.update(element));
    }
    let hash = hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    Ok(Some(Listing { hash, revision, objects }))
}

/// What `nft --version` says: "nftables v1.0.6 (Lester Gooch #5)".
pub async fn version() -> Result<String, KernelError> {
    let output = nft(&["--version"], "").await?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether this kernel has flow tables.
pub async fn has_flow_tables() -> Result<bool, KernelError> {
    would_stand("inet", &format!("flowtable {FLOW_TABLE} {{ hook ingress priority 0; counter; }}\nchain c {{ flow add @{FLOW_TABLE}; }}"))
        .await
}

/// Whether it sends copies of packets to neighbours.
pub async fn has_copies() -> Result<bool, KernelError> {
    would_stand("ip", "chain c { dup to 192.0.2.1; }").await
}

/// Whether this kernel would take a table with that in it: asked by a dry run, of which nothing stays.
async fn would_stand(family: &str, body: &str) -> Result<bool, KernelError> {
    let script = format!("table {family} {TABLE}_dry_run {{\n{body}\n}}\n");
    Ok(nft(&["-c", "-f", "-"], &script).await?.status.success())
}

/// Every table of this namespace, whoever made it; without the elements of sets.
pub async fn ruleset_json() -> Result<Value, KernelError> {
    json("list the ruleset", &["-j", "-t", "list", "ruleset"]).await
}

/// Handles are numbers that the kernel hands out; counters count.
fn forget_what_varies(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(forget_what_varies),
        Value::Object(object) => {
            object.remove("handle");
            if let Some(Value::Object(counter)) = object.get_mut("counter") {
                counter.retain(|key, _| key != "packets" && key != "bytes");
            }
            // Its devices are kept one by one, as elements are.
            if let Some(Value::Object(flow_table)) = object.get_mut("flowtable") {
                flow_table.remove("dev");
            }
            object.values_mut().for_each(forget_what_varies);
        }
        _ => {}
    }
}

/// Carries a script out as one transaction.
async fn run(script: &str) -> Result<(), KernelError> {
    successful("replace a table", &["-f", "-"], script).await.map(drop)
}

/// What nft says in JSON.
async fn json(attempt: &'static str, arguments: &[&str]) -> Result<Value, KernelError> {
    let text = successful(attempt, arguments, "").await?;
    serde_json::from_slice(&text).map_err(|error| KernelError::Nft { attempt, complaint: error.to_string() })
}

/// What nft printed, if it did what it was asked for.
async fn successful(attempt: &'static str, arguments: &[&str], input: &str) -> Result<Vec<u8>, KernelError> {
    let output = nft(arguments, input).await?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    tracing::debug!(?arguments, input, "nft refused");
    Err(KernelError::Nft { attempt, complaint: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

async fn nft(arguments: &[&str], input: &str) -> Result<Output, KernelError> {
    let start = |source| KernelError::NoNft { source };
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // nft reads all of it before it says anything; a child that died early says why on its error output.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    child.wait_with_output().await.map_err(start)
}
