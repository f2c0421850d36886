use crate::config::HaKey;
use crate::model::Secret;
pub fn read_key(key: &HaKey) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(&key.file)?;
    let t = text.trim();
    let bytes: Vec<u8> = (0..t.len() / 2).map(|i| u8::from_str_radix(&t[2 * i..2 * i + 2], 16)).collect::<Result<_, _>>()?;
    Ok(Secret::new(&bytes)?)
}

use crate::wire::seal::Seal;
use crate::wire::vrrp::{Key, Keyring};
pub fn read_all(keys: &[HaKey]) -> anyhow::Result<(Keyring, Seal)> {
    let read: Vec<(crate::model::KeyId, Secret)> = keys.iter().map(|key| Ok((key.id, read_key(key)?))).collect::<anyhow::Result<_>>()?;
    let [first, others @ ..] = read.as_slice() else { anyhow::bail!("`ha.keys` is empty") };
    let vrrp = |(id, secret): &(crate::model::KeyId, Secret)| Key::new(*id, secret);
    let sync = |(_, secret): &(crate::model::KeyId, Secret)| Seal::derived(secret.expose(), "portway state sync 1");
    let seal = sync(first);
    let seal = match others.first() {
        Some(other) => seal.or(sync(other)),
        None => seal,
    };
    Ok((Keyring { signing: vrrp(first), other: others.first().map(vrrp) }, seal))
}
