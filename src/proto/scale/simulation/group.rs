//! Nodes as a cloud runs them: they take their time to come, and none to go.

use super::START_UP;

/// How a day went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Seconds in which more was asked for than there was.
    pub over: usize,
    pub node_seconds: usize,
    pub changes: usize,
    /// Seconds between the two changes in opposite directions that were nearest to each other.
    pub nearest: Option<usize>,
}

impl Outcome {
    pub fn add(&mut self, other: Self) {
        self.over += other.over;
        self.node_seconds += other.node_seconds;
        self.changes += other.changes;
        self.nearest = self.nearest.into_iter().chain(other.nearest).min();
    }
}

pub struct Group {
    /// Each with its number and the second from which it carries traffic, the first first.
    nodes: Vec<(u32, usize)>,
    next: u32,
    last: Option<(usize, bool)>,
    pub outcome: Outcome,
}

impl Group {
    pub fn new(nodes: u32) -> Self {
        Self { nodes: (0..nodes).map(|number| (number, 0)).collect(), next: nodes, last: None, outcome: Outcome::default() }
    }

    pub fn ordered(&self) -> u32 {
        self.nodes.len() as u32
    }

    pub fn serving(&self, second: usize) -> &[(u32, usize)] {
        &self.nodes[..self.nodes.partition_point(|(_, from)| *from <= second)]
    }

    /// Those that have carried traffic for so long.
    pub fn older_than(&self, second: usize, long: usize) -> u32 {
        self.nodes.partition_point(|(_, from)| *from == 0 || from + long <= second) as u32
    }

    pub fn order(&mut self, second: usize, nodes: u32) {
        let out = nodes > self.ordered();
        if nodes == self.ordered() {
            return;
        }
        if let Some((before, other)) = self.last
            && other != out
        {
            let apart = second - before;
            self.outcome.nearest = Some(self.outcome.nearest.map_or(apart, |nearest| nearest.min(apart)));
        }
        self.last = Some((second, out));
        self.outcome.changes += 1;
        // The latest go first: those that are not there yet.
        self.nodes.truncate(nodes as usize);
        while self.ordered() < nodes {
            self.nodes.push((self.next, second + START_UP));
            self.next += 1;
        }
    }

    /// A second passes. How much of what each node can carry is used: all at most.
    pub fn carry(&mut self, second: usize, asked: f64) -> f64 {
        let serving = self.serving(second).len() as f64;
        self.outcome.over += usize::from(asked > serving);
        self.outcome.node_seconds += self.nodes.len();
        (asked / serving).min(1.0)
    }
}
