//! A shard that is Active here: one stream to each of the other candidates.

use super::super::board::{Board, Told};
use super::send;
use crate::kernel::conntrack::{Filter, FlowDump};
use crate::proto::sync::{ListId, Sender, SenderEffect};
use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

pub struct Telling {
    pub to: IpAddr,
    pub sender: Sender,
    pub list: Option<(ListId, FlowDump)>,
}

impl Telling {
    pub fn turn(&mut self, now: Instant, zone: u16, socket: &UdpSocket, port: u16, board: &Board) {
        let sender = &mut self.sender;
        if let Some((list, reading)) = self.list.as_mut().filter(|_| sender.list_room(now) > 0) {
            let list = *list;
            match reading.next(|flow| sender.listed(now, list, &flow)) {
                Ok(true) => {}
                Ok(false) => {
                    self.list = None;
                    sender.list_ended(now, list);
                }
                Err(error) => {
                    tracing::warn!("connections cannot be listed to the end, later again: {error}");
                    self.list = None;
                    sender.list_failed(now, list);
                }
            }
        }
        sender.handle_timeout(now);
        while let Some(effect) = self.sender.next_effect() {
            match effect {
                SenderEffect::Send(datagram) => send(socket, self.to, port, &datagram, board),
                SenderEffect::List(list) => match FlowDump::start(Filter::zone(zone)) {
                    Ok(reading) => self.list = Some((list, reading)),
                    Err(error) => {
                        tracing::warn!("connections cannot be listed, later again: {error}");
                        self.list = None;
                        self.sender.list_failed(now, list);
                    }
                },
            }
        }
    }

    pub fn show(&self, now: Instant) -> Told {
        let sender = &self.sender;
        Told { to: self.to, up: sender.is_up(), in_sync: sender.in_sync(now), lag: sender.lag(now), counters: sender.counters }
    }
}
