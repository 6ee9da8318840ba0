//! The balancer's talk with keepalived while it runs: how well it is, one way;
//! where it stands, the other.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::board::Board;
use crate::keepalived::{Keepalived, Standing};

/// How soon a change of fitness is told.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The weight is told anew this often: keepalived may have been restarted.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// The way to keepalived and back.
pub struct Pair {
    /// What keepalived writes to the notify FIFO; never ends.
    pub notices: Box<dyn AsyncRead + Send + Unpin>,
    /// Puts a number into the track file.
    pub tell: Box<dyn FnMut(i32) -> io::Result<()> + Send>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair(..)")
    }
}

/// Keeps both sides told; ends only when dropped.
pub(crate) async fn keep(board: &Board, config: &Keepalived, pair: Pair) {
    let mut notices = Notices { source: Some(BufReader::new(pair.notices)), line: Vec::new() };
    let mut telling = Telling { tell: pair.tell, last: None, failing: false };
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    loop {
        tokio::select! {
            biased;
            standing = notices.next() => {
                info!(standing = standing.word(), "keepalived says where this balancer stands");
                board.stands(standing);
            }
            _ = look.tick() => {}
        }
        telling.tell(config.weight(board.fitness()), &config.track_file);
    }
}

struct Notices {
    /// `None` once it cannot be read.
    source: Option<BufReader<Box<dyn AsyncRead + Send + Unpin>>>,
    /// What has been read of the next line.
    line: Vec<u8>,
}

impl Notices {
    /// The next standing. Cancel safe: half a line is kept.
    async fn next(&mut self) -> Standing {
        loop {
            let Some(source) = &mut self.source else { return std::future::pending().await };
            match source.read_until(b'\n', &mut self.line).await {
                Ok(read) if read > 0 => {
                    let line = std::mem::take(&mut self.line);
                    if let Some(standing) = Standing::of_notice(&String::from_utf8_lossy(&line)) {
                        return standing;
                    }
                }
                ended => {
                    let why = ended.err().map_or("it ended".to_owned(), |error| error.to_string());
                    warn!(why, "the notify FIFO cannot be read any more; restart this balancer");
                    self.source = None;
                    return Standing::Unknown;
                }
            }
        }
    }
}

struct Telling {
    tell: Box<dyn FnMut(i32) -> io::Result<()> + Send>,
    /// What was told last, and when.
    last: Option<(i32, Instant)>,
    failing: bool,
}

impl Telling {
    fn tell(&mut self, weight: i32, track_file: &Path) {
        if self.last.is_some_and(|(last, at)| last == weight && at.elapsed() < TELL_INTERVAL) {
            return;
        }
        let told = (self.tell)(weight);
        match &told {
            Ok(()) if self.last.is_none_or(|(last, _)| last != weight) => {
                info!(weight, "told keepalived how well this balancer is");
            }
            Err(error) if !self.failing => {
                let file = track_file.display();
                warn!(%error, %file, "cannot write the track file: keepalived keeps to what it was told");
            }
            _ => {}
        }
        self.failing = told.is_err();
        self.last = Some((weight, Instant::now()));
    }
}
