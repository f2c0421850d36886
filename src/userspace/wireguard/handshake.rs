//! Handshakes as they are carried out: by the control thread, and by whoever owns the device. Never by the threads that carry packets: an
//! answer costs four agreements on a secret, 0.1 ms.

use super::counters::DropReason;
use super::event::Event;
use super::mac::{self, Marker};
use super::message::{CookieReply, Initiation, Response, word};
use super::noise::{self, Identity, Opened};
use super::peer::{Attempt, Peer};
use super::sealer::{Sealer, send_one};
use super::session::{REJECT_AFTER, REKEY_LATE, Session};
use super::shared::{Held, Interface, Shared};
use super::timers::{Action, Trying, due};
use crate::model::{Invalid, PrivateKey, PublicKey};
use crate::wire::wireguard::Tai64n;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

/// When to look again at a peer about which something is due that could not be done.
const LATER: u64 = 1_000;
/// Between two initiations of one peer that are answered, as in the kernel (INITIATIONS_PER_SECOND, drivers/net/wireguard/messages.h). Milliseconds.
const GAP: u64 = 1_000 / 50;

/// Sends an initiation: now, or, unless it is `urgent`, not before the last one has had time to be answered. One of the last 20 ms will do.
pub fn begin(shared: &Shared, interface: &Arc<Interface>, peer: &Arc<Peer>, urgent: bool) -> Result<(), DropReason> {
    let result = try_begin(shared, interface, peer, urgent);
    if let Err(reason) = result {
        peer.asked.store(false, Relaxed);
        interface.dropped(reason);
        if peer.handshake().attempt.is_none() {
            // For nothing.
            interface.drops.count(DropReason::NoSession, peer.waited().len() as u64);
        }
    }
    result
}

/// The same, if it is still wanted: whoever asked for it may not have known of the newest session.
pub fn begin_if_wanted(shared: &Shared, interface: &Arc<Interface>, peer: &Arc<Peer>) {
    let now = shared.now();
    let wanted = |session: &Session| session.is_stale(now) || (session.initiator && session.age(now) >= REKEY_LATE);
    if peer.session(now).is_none_or(|session| wanted(&session)) {
        // What cannot be begun is counted there.
        _ = begin(shared, interface, peer, false);
    } else {
        peer.asked.store(false, Relaxed);
    }
}

fn try_begin(shared: &Shared, interface: &Arc<Interface>, peer: &Arc<Peer>, urgent: bool) -> Result<(), DropReason> {
    let now = shared.now();
    let mut handshake = peer.handshake();
    if handshake.removed || !interface.is_sending() {
        return Err(DropReason::Silent);
    }
    let former = handshake.attempt.as_ref().map(|attempt| (attempt.local, attempt.trying));
    // Whoever was just sent one refuses another, which would make its answer to the first one worthless.
    if former.is_some_and(|(_, trying)| now < if urgent { trying.sent() + GAP } else { trying.until }) {
        return Ok(());
    }
    let to = peer.endpoint().ok_or(DropReason::NoEndpoint)?;
    let random = getrandom::u32().map_err(|_| DropReason::NoSession)?;
    let local = interface.reserve(peer).map_err(|_| DropReason::NoSession)?;
    let stamp = interface.next_stamp(shared.wall());
    let Ok((initiating, mut message)) = noise::initiate(&interface.identity, &peer.key, local, stamp) else {
        interface.release([local]);
        return Err(DropReason::BadHandshake);
    };
    handshake.seal(&Marker::of(&peer.key), &mut message, now);
    let trying = match former {
        Some((_, trying)) if !urgent => trying.again(now, random),
        _ => Trying::begin(now, random),
    };
    interface.release(former.map(|(local, ..)| local));
    handshake.attempt = Some(Box::new(Attempt { initiating, local, trying }));
    drop(handshake);
    peer.asked.store(true, Relaxed);
    send_one(interface, to, &message);
    peer.marks.sent(false, 0, now);
    watch(shared, interface, peer, trying.next);
    Ok(())
}

/// An initiation as the owner of a key would send it to a peer; for measurements and tests, which need many of many.
///
/// # Errors
/// If the two keys share no secret.
pub fn knock(key: &PrivateKey, peer: &PublicKey, stamp: Tai64n) -> Result<Initiation, Invalid> {
    let made = noise::initiate(&Identity::new(key.clone()), peer, 1, stamp);
    let (_, mut message) = made.map_err(|_| Invalid(format!("no secret can be shared with {peer}")))?;
    Marker::of(peer).seal(&mut message, None);
    Ok(message)
}

/// Opens an initiation and answers it, if it is from a peer; if not, the owner is told.
pub fn answer(shared: &Shared, interface: &Arc<Interface>, source: SocketAddr, message: &Initiation) -> Result<(), DropReason> {
    let opened = noise::open(&interface.identity, message).map_err(|_| DropReason::BadHandshake)?;
    let peer = interface.table().peer(&opened.key).cloned();
    match peer {
        Some(peer) => respond(shared, interface, &peer, source, opened),
        None => {
            let (name, bytes) = (interface.config.name.clone(), Box::new(*message));
            shared.tell(Event::UnknownInitiation { interface: name, source, key: opened.key, stamp: opened.stamp, bytes });
            Err(DropReason::UnknownKey)
        }
    }
}

fn respond(shared: &Shared, interface: &Arc<Interface>, peer: &Arc<Peer>, source: SocketAddr, opened: Opened) -> Result<(), DropReason> {
    let now = shared.now();
    let mut handshake = peer.handshake();
    if handshake.removed {
        return Err(DropReason::UnknownKey);
    }
    if !interface.is_sending() {
        return Err(DropReason::Silent);
    }
    if opened.stamp <= handshake.heard {
        return Err(DropReason::Replayed);
    }
    if handshake.answered > 0 && now < handshake.answered + GAP {
        return Err(DropReason::TooOften);
    }
    let (stamp, remote) = (opened.stamp, opened.remote);
    let local = interface.reserve(peer).map_err(|_| DropReason::NoSession)?;
    let made =
        opened.respond(local).ok().and_then(|(response, keys)| Some((response, Session::new(keys, local, remote, false, now).ok()?)));
    let Some((mut response, session)) = made else {
        interface.release([local]);
        return Err(DropReason::BadHandshake);
    };
    (handshake.heard, handshake.answered) = (stamp, now);
    for buckets in [&shared.claimed, &shared.proven] {
        buckets.lock().unwrap_or_else(PoisonError::into_inner).give_back(source.ip());
    }
    let session = Arc::new(session);
    interface.hold(peer, &session);
    interface.release_sessions(&peer.answered(session));
    handshake.seal(&Marker::of(&peer.key), &mut response, now);
    drop(handshake);
    agreed(shared, interface, peer, source, now);
    if let Some(to) = peer.endpoint() {
        send_one(interface, to, &response);
    }
    let by = peer.marks.received(false, peer.keepalive.load(Relaxed), now);
    shared.look(by, interface, peer);
    watch(shared, interface, peer, now + REJECT_AFTER);
    Ok(())
}

/// Takes the answer to an initiation of ours, and sends what has waited for it.
pub fn conclude(
    shared: &Shared,
    interface: &Arc<Interface>,
    source: SocketAddr,
    message: &Response,
    sealer: &mut Sealer,
) -> Result<(), DropReason> {
    let now = shared.now();
    let Some(Held { peer, session: None }) = interface.held(word(message, 8)) else { return Err(DropReason::UnknownSession) };
    let mut handshake = peer.handshake();
    let attempt = handshake.attempt.as_mut().filter(|attempt| attempt.local == word(message, 8)).ok_or(DropReason::UnknownSession)?;
    let keys = attempt.initiating.finish(message).map_err(|_| DropReason::BadHandshake)?;
    let session = Session::new(keys, attempt.local, word(message, 4), true, now).map_err(|_| DropReason::BadHandshake)?;
    handshake.attempt = None;
    let session = Arc::new(session);
    interface.hold(&peer, &session);
    interface.release_sessions(&peer.begun(session));
    peer.asked.store(false, Relaxed);
    drop(handshake);
    peer.marks.clear();
    agreed(shared, interface, &peer, source, now);
    let by = peer.marks.received(false, peer.keepalive.load(Relaxed), now);
    shared.look(by, interface, &peer);
    sealer.release(shared, interface, &peer, true);
    watch(shared, interface, &peer, now + REJECT_AFTER);
    Ok(())
}

/// Takes a cookie, for the next handshake message to whom it is from: an initiation comes when the last has had its time, an answer when they try again.
pub fn take_cookie(shared: &Shared, interface: &Interface, message: &CookieReply) -> Result<(), DropReason> {
    let Held { peer, .. } = interface.held(mac::receiver(message)).ok_or(DropReason::UnknownSession)?;
    let mut handshake = peer.handshake();
    let mac1 = handshake.sent_mac1.ok_or(DropReason::UnknownSession)?;
    let cookie = Marker::of(&peer.key).cookie(message, &mac1).ok_or(DropReason::BadHandshake)?;
    handshake.cookie = Some((cookie, shared.now()));
    // A copy of it would only make it last longer.
    handshake.sent_mac1 = None;
    Ok(())
}

/// Does what is due about a peer, and sees to it that it is looked at again.
pub fn look(shared: &Shared, interface: &Arc<Interface>, peer: &Arc<Peer>) {
    let now = shared.now();
    let actions = due(&peer.view(&peer.handshake()), now).0;
    for action in actions {
        match action {
            Action::GiveUp => {
                interface.release(peer.handshake().attempt.take().map(|attempt| attempt.local));
                interface.drops.count(DropReason::NoSession, peer.waited().len() as u64);
                peer.marks.clear();
                peer.asked.store(false, Relaxed);
            }
            Action::Expire => interface.release_sessions(&peer.expire(REJECT_AFTER, now)),
            // They began one meanwhile, and it is in use.
            Action::Resend if overtaken(peer, now) => {
                interface.release(peer.handshake().attempt.take().map(|attempt| attempt.local));
                peer.asked.store(false, Relaxed);
            }
            Action::Resend | Action::Renew => {
                if begin(shared, interface, peer, false).is_err() {
                    interface.release(peer.handshake().attempt.take().map(|attempt| attempt.local));
                    peer.marks.clear();
                }
            }
            Action::Keepalive => keepalive(shared, interface, peer, now),
        }
    }
    let (open, next) = due(&peer.view(&peer.handshake()), now);
    let next = if open.is_empty() { next } else { Some(now + LATER) };
    if let Some(by) = next {
        watch(shared, interface, peer, by);
    }
}

/// Whether there is a session to send by that is younger than the attempt at one.
fn overtaken(peer: &Peer, now: u64) -> bool {
    let since = peer.handshake().attempt.as_ref().map(|attempt| attempt.trying.since);
    peer.session(now).zip(since).is_some_and(|(session, since)| session.created >= since)
}

/// Lets the other side hear from us; where there is no session and there always should be one, by beginning one.
fn keepalive(shared: &Shared, interface: &Arc<Interface>, peer: &Arc<Peer>, now: u64) {
    // Whether it works or not, it is tried again in its own time only.
    peer.marks.sent(false, 0, now);
    match peer.session(now).zip(peer.endpoint()) {
        Some((session, to)) => match session.keepalive() {
            Ok(message) => send_one(interface, to, &message),
            Err(reason) => interface.dropped(reason),
        },
        None if peer.keepalive.load(Relaxed) > 0 => _ = begin(shared, interface, peer, false),
        None => {}
    }
}

fn agreed(shared: &Shared, interface: &Interface, peer: &Peer, source: SocketAddr, now: u64) {
    peer.agreed.store(now, Relaxed);
    peer.heard_at(source, interface.config.roaming);
    let heard = peer.handshake().heard;
    let endpoint = peer.endpoint().unwrap_or(source);
    shared.tell(Event::Handshake { interface: interface.config.name.clone(), incarnation: interface.id, key: peer.key, endpoint, heard });
}

fn watch(shared: &Shared, interface: &Arc<Interface>, peer: &Arc<Peer>, by: u64) {
    if peer.marks.claim(by) {
        shared.inbox.look(by, interface, peer);
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
