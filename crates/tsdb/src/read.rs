//! Reading the head and the blocks as one storage.
//!
//! A select asks the sources whose time overlaps the range: the head first, then the blocks by time. A lone source's series
//! keep their order; of several the series come in order of labels, whether that was asked for or not, because Prometheus
//! sorts then, and sums depend on the order ([`set`]). Samples of a series in several sources are put one behind another, or
//! merged where they overlap ([`samples`]).
//!
//! Damage costs what it covers: what a source cannot read is left out and told as a warning ([`Control::warn`]), unless
//! there is nothing else to answer from. Any other error, such as one of the disk, fails the query: it may succeed the next
//! time.

mod samples;
mod set;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::sync::Arc;

use fk_block::Block;
use fk_model::Matcher;
use fk_storage::{Control, Queryable, SelectParams, SeriesSet, StorageError, TimeRange};

use crate::head::Head;
use crate::view::View;
use set::Source;

/// What keeps the view of a set alive.
type Pinned = Arc<dyn Any + Send + Sync>;

/// The head and the blocks of one view.
#[derive(Debug)]
pub struct Reader<'h> {
    head: &'h Arc<Head>,
    view: Arc<View<Block>>,
}

/// One of the places to ask.
struct Asked<'q> {
    storage: &'q dyn Queryable,
    /// Outside of it the place has no sample that may be shown.
    span: TimeRange,
}

impl<'h> Reader<'h> {
    /// Reads as `view` has it.
    pub fn new(head: &'h Arc<Head>, view: Arc<View<Block>>) -> Reader<'h> {
        Reader { head, view }
    }

    /// Calls `ask` with the sources whose time overlaps `range`.
    fn with_sources<R>(&self, range: TimeRange, ask: impl FnOnce(&[Asked<'_>]) -> R) -> R {
        let head = HeadFrom { head: self.head, mint: self.view.head_mint };
        let mut sources: Vec<Asked<'_>> = Vec::new();
        if self.head.reaches(range, self.view.head_mint) {
            sources.push(Asked { storage: &head, span: TimeRange { mint: i64::MIN, maxt: i64::MAX } });
        }
        for block in self.view.blocks.iter().filter(|b| b.overlaps(range)) {
            let (mint, end) = block.times();
            sources.push(Asked { storage: block, span: TimeRange { mint, maxt: end.saturating_sub(1) } });
        }
        ask(&sources)
    }
}

impl Queryable for Reader<'_> {
    fn select(
        &self,
        params: &SelectParams,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let pinned: Pinned = Arc::<View<Block>>::clone(&self.view);
        self.with_sources(params.range, |sources| select(sources, params, matchers, control, pinned))
    }

    fn label_values(
        &self,
        name: &str,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.with_sources(range, |sources| {
            texts(sources, control, |source| source.label_values(name, range, matchers, control))
        })
    }

    fn label_names(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.with_sources(range, |sources| {
            texts(sources, control, |source| source.label_names(range, matchers, control))
        })
    }
}

/// The head without the in-order samples that are in blocks.
#[derive(Debug)]
struct HeadFrom<'h> {
    head: &'h Arc<Head>,
    mint: i64,
}

impl Queryable for HeadFrom<'_> {
    fn select(
        &self,
        params: &SelectParams,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        self.head.select_from(self.mint, params, matchers, control)
    }

    fn label_values(
        &self,
        name: &str,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.head.label_values(name, range, matchers, control)
    }

    fn label_names(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.head.label_names(range, matchers, control)
    }
}

/// Asks each source. What the damaged ones lack is a warning if another one has answered.
fn ask_all<T>(
    sources: &[Asked<'_>],
    control: &Control,
    mut ask: impl FnMut(&Asked<'_>) -> Result<T, StorageError>,
) -> Result<Vec<T>, StorageError> {
    let (mut answers, mut damage) = (Vec::with_capacity(sources.len()), Vec::new());
    for source in sources {
        match ask(source) {
            Ok(answer) => answers.push(answer),
            Err(error @ StorageError::Corrupt { .. }) => damage.push(error),
            Err(other) => return Err(other),
        }
    }
    if answers.is_empty()
        && let Some(error) = damage.pop()
    {
        return Err(error);
    }
    damage.iter().for_each(|error| control.warn(error.to_string()));
    Ok(answers)
}

fn select(
    sources: &[Asked<'_>],
    params: &SelectParams,
    matchers: &[Matcher],
    control: &Control,
    pinned: Pinned,
) -> Result<Box<dyn SeriesSet>, StorageError> {
    control.check()?;
    let params = SelectParams { sorted: params.sorted || sources.len() > 1, ..params.clone() };
    let found = ask_all(sources, control, |source| {
        Ok(Source { set: source.storage.select(&params, matchers, control)?, span: source.span })
    })?;
    set::merge(found, params.limit, control, pinned)
}

fn texts(
    sources: &[Asked<'_>],
    control: &Control,
    mut ask: impl FnMut(&dyn Queryable) -> Result<Vec<String>, StorageError>,
) -> Result<Vec<String>, StorageError> {
    let mut answers = ask_all(sources, control, |source| ask(source.storage))?;
    if answers.len() < 2 {
        return Ok(answers.pop().unwrap_or_default());
    }
    let mut all = answers.concat();
    // A stable sort finds the rows that are sorted already and merges them.
    all.sort();
    all.dedup();
    Ok(all)
}
