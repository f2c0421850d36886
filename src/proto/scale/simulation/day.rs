//! What is asked for in each second of a day, in nodes' worth, and whether anybody hears of it.

use super::DAY;
use super::aws::{Reading, ScaleIn};
use std::f64::consts::TAU;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Day {
    /// Quiet at night, busy in the afternoon.
    Diurnal,
    /// Three times ten times as much within a minute: for 5 minutes, 20 and an hour.
    Spike,
    /// It rises for 45 minutes and falls at once.
    Sawtooth,
    /// Nothing is asked for in the night; for an hour at noon and half an hour in the evening nobody hears of anything, and for 20 s every quarter of an hour.
    Silence,
    /// Around a mean, with noise that lasts, and bursts.
    Noisy,
}

pub struct Load {
    pub day: Day,
    /// Nodes' worth.
    pub asked: Vec<f64>,
    /// Whether there are readings.
    pub heard: Vec<bool>,
}

impl Day {
    pub const ALL: [Day; 5] = [Day::Diurnal, Day::Spike, Day::Sawtooth, Day::Silence, Day::Noisy];

    /// Percent of the node-hours of AWS. On the day of spikes the reading that scales in proportionally is no bar that can be held: it costs little
    /// because it does not carry them for three quarters of an hour. To carry them at the target takes 15 nodes for 85 minutes, and to have two all day: 69
    /// node-hours, 103 % of it, with nobody a second too long.
    pub fn may_cost(self, reading: Reading) -> usize {
        match (self, reading.scale_in) {
            (Day::Spike, ScaleIn::Proportional) => 120,
            _ => 105,
        }
    }

    pub fn load(self, seed: u64) -> Load {
        let mut random = Random::new(100 * seed + self as u64 + 1);
        let mut noise = Noise::default();
        let mut bursts = Bursts::default();
        let mut asked = Vec::with_capacity(DAY);
        for second in 0..DAY {
            let hour = second as f64 / 3600.0;
            let (shape, rough) = match self {
                Day::Diurnal => (diurnal(hour), 0.03),
                Day::Spike => (spikes(second), 0.02),
                Day::Sawtooth => (1.5 + 6.0 * (second % 2700) as f64 / 2700.0, 0.02),
                Day::Silence if (2.0..5.0).contains(&hour) => (0.0, 0.0),
                Day::Silence => (diurnal(hour), 0.03),
                Day::Noisy => (5.0 * bursts.next(&mut random), 0.10),
            };
            asked.push((shape * (1.0 + rough * noise.next(&mut random))).max(0.0));
        }
        let gap = |second: usize| {
            let hour = second as f64 / 3600.0;
            self == Day::Silence && ((11.5..12.5).contains(&hour) || (20.0..20.5).contains(&hour) || second % 900 < 20)
        };
        Load { day: self, asked, heard: (0..DAY).map(|second| !gap(second)).collect() }
    }
}

/// 2 at three in the morning, 9 at three in the afternoon, with a second, smaller hill in the evening.
fn diurnal(hour: f64) -> f64 {
    let hill = |at: f64, width: f64| (-((hour - at) / width).powi(2)).exp();
    2.0 + 7.0 * hill(15.0, 4.0) + 2.0 * hill(21.0, 1.5)
}

/// 1, and ten times as much from 3:00:17, 11:20:48 and 18:10:05 on, within 60 s; as long to come down.
fn spikes(second: usize) -> f64 {
    let spike = |from: usize, long: usize| {
        let up = second.saturating_sub(from).min(60) as f64 / 60.0;
        let down = second.saturating_sub(from + long).min(60) as f64 / 60.0;
        9.0 * (up - down)
    };
    1.0 + spike(10_817, 1200) + spike(40_848, 300) + spike(65_405, 3600)
}

/// xorshift64*
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 0 to 1.
    pub fn part(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.part()).ln()).sqrt();
        radius * (TAU * self.part()).cos()
    }
}

/// Of variance 1; what it is now, it still is in part 20 s later.
#[derive(Default)]
struct Noise(f64);

impl Noise {
    fn next(&mut self, random: &mut Random) -> f64 {
        let stays = (-1.0_f64 / 20.0).exp();
        self.0 = stays * self.0 + (1.0 - stays * stays).sqrt() * random.normal();
        // And a third that is gone in the next second.
        0.9 * self.0 + 0.43 * random.normal()
    }
}

/// Every 15 minutes or so 1.2 to 1.6 times as much, for 10 to 60 s.
#[derive(Default)]
struct Bursts {
    left: u32,
    factor: f64,
}

impl Bursts {
    fn next(&mut self, random: &mut Random) -> f64 {
        if self.left > 0 {
            self.left -= 1;
            return self.factor;
        }
        if random.part() < 1.0 / 900.0 {
            self.left = 10 + (random.part() * 50.0) as u32;
            self.factor = 1.2 + 0.4 * random.part();
        }
        1.0
    }
}
