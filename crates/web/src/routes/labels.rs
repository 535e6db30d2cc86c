//! Series, label names and label values.

use std::sync::Arc;

use actix_web::web;
use fk_model::{Labels, Matcher};
use fk_storage::{Control, Reservation, SelectParams, Storage, StorageError, TimeRange};

use crate::answer::{ApiError, ChunkWriter, finish_envelope, json_response};
use crate::call::{Call, CancelOnDrop, Reply};
use crate::json;
use crate::params::{Params, TIME_MAX, TIME_MIN, unescape_name};
use crate::selectors;

/// Text as in Prometheus.
const TRUNCATED: &str = "results truncated due to limit";

/// What the three routes have in common.
struct Wanted {
    range: TimeRange,
    selectors: Vec<Vec<Matcher>>,
    /// 0: no limit.
    limit: usize,
}

impl Wanted {
    fn read(params: &Params, selectors: Vec<Vec<Matcher>>) -> Result<Wanted, ApiError> {
        let limit = params.limit()?;
        let range = TimeRange { mint: params.time_or("start", TIME_MIN)?, maxt: params.time_or("end", TIME_MAX)? };
        Ok(Wanted { range, selectors, limit })
    }
}

/// What a query of the storage found, and its warnings.
struct Found<T> {
    items: Vec<T>,
    warnings: Vec<String>,
}

pub(crate) async fn names(mut call: Call) -> Reply {
    let params = call.params().await?;
    let wanted = Wanted::read(&params, selectors::selecting_plainly(params.all("match[]"))?)?;
    answer(
        &call,
        wanted,
        |storage, wanted, control, memory| strings(wanted, memory, |m| storage.label_names(wanted.range, m, control)),
        |out, text| json::write_text(out, text),
    )
    .await
}

pub(crate) async fn values(mut call: Call) -> Reply {
    let params = call.params().await?;
    // Text as in Prometheus.
    let invalid = |name: &dyn std::fmt::Display| ApiError::bad_data(format!("invalid label name: \"{name}\""));
    let raw = call.req.uri().path().split('/').rev().nth(1).unwrap_or("");
    let name = call.segment(3).map_err(|_| invalid(&raw.replace('%', "\\x")))?;
    let name = unescape_name(&name);
    if name.is_empty() {
        return Err(invalid(&name));
    }
    let wanted = Wanted::read(&params, selectors::selecting_plainly(params.all("match[]"))?)?;
    let find = move |storage: &dyn Storage, wanted: &Wanted, control: &Control, memory: &mut Reservation| {
        strings(wanted, memory, |m| storage.label_values(&name, wanted.range, m, control))
    };
    answer(&call, wanted, find, |out, text| json::write_text(out, text)).await
}

pub(crate) async fn series(mut call: Call) -> Reply {
    let params = call.params().await?;
    if params.all("match[]").next().is_none() {
        // Text as in Prometheus.
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let wanted = Wanted::read(&params, selectors::selecting(params.all("match[]"))?)?;
    answer(&call, wanted, find_series, json::write_labels).await
}

/// Series between two looks at the clock.
const SERIES_PER_CHECK: usize = 1024;

fn find_series(
    storage: &dyn Storage,
    wanted: &Wanted,
    control: &Control,
    memory: &mut Reservation,
) -> Result<Found<Labels>, StorageError> {
    let mut found = Found { items: Vec::new(), warnings: Vec::new() };
    // One more than wanted tells whether there are more.
    let limit = if wanted.limit == 0 { 0 } else { wanted.limit + 1 };
    for matchers in &wanted.selectors {
        let set = storage.select(&SelectParams { range: wanted.range, sorted: true, limit }, matchers, control)?;
        for idx in 0..set.len() {
            if idx % SERIES_PER_CHECK == SERIES_PER_CHECK - 1 {
                control.check()?;
            }
            let labels = set.labels(idx);
            memory.grow(labels.byte_len() + size_of::<Labels>())?;
            found.items.push(labels);
        }
    }
    if wanted.selectors.len() > 1 {
        found.items.sort_unstable();
        found.items.dedup();
    }
    Ok(found)
}

/// Asks once for each selector, or once without any, and merges.
fn strings(
    wanted: &Wanted,
    memory: &mut Reservation,
    ask: impl Fn(&[Matcher]) -> Result<Vec<String>, StorageError>,
) -> Result<Found<String>, StorageError> {
    let mut ask = |matchers: &[Matcher]| -> Result<Vec<String>, StorageError> {
        let found = ask(matchers)?;
        memory.grow(found.iter().map(|text| text.len() + size_of::<String>()).sum())?;
        Ok(found)
    };
    let mut items = match &wanted.selectors[..] {
        [] => ask(&[])?,
        [matchers] => ask(matchers)?,
        several => {
            let mut all = Vec::new();
            for matchers in several {
                all.append(&mut ask(matchers)?);
            }
            all.sort_unstable();
            all.dedup();
            all
        }
    };
    items.shrink_to_fit();
    Ok(Found { items, warnings: Vec::new() })
}

/// Runs `find` on a thread that may block and writes what it finds as a list.
async fn answer<T: 'static>(
    call: &Call,
    wanted: Wanted,
    find: impl FnOnce(&dyn Storage, &Wanted, &Control, &mut Reservation) -> Result<Found<T>, StorageError> + Send + 'static,
    write: fn(&mut Vec<u8>, &T),
) -> Reply {
    let storage: Arc<dyn Storage> = call.storage()?;
    let queries = &call.state().queries;
    let deadline = std::time::Instant::now() + queries.settings().timeout;
    let control = queries.board().control().with_deadline(deadline);
    let _cancel = CancelOnDrop(control.clone());
    let work = web::block(move || -> Result<_, ApiError> {
        let mut memory = control.reserve();
        let mut found = find(&*storage, &wanted, &control, &mut memory)?;
        found.warnings = control.take_warnings();
        if wanted.limit > 0 && found.items.len() > wanted.limit {
            found.items.truncate(wanted.limit);
            found.warnings.push(TRUNCATED.to_owned());
        }
        let mut out = ChunkWriter::within(&control);
        out.buffer().extend_from_slice(b"{\"status\":\"success\",\"data\":[");
        for (at, item) in found.items.iter().enumerate() {
            if at > 0 {
                out.buffer().push(b',');
            }
            if at % SERIES_PER_CHECK == SERIES_PER_CHECK - 1 {
                control.check()?;
            }
            write(out.buffer(), item);
            out.spill()?;
        }
        out.buffer().push(b']');
        finish_envelope(&mut out, &found.warnings, &[]);
        Ok(out.into_chunks())
    });
    match work.await {
        Ok(chunks) => Ok(json_response(chunks?)),
        Err(_) => Err(ApiError::internal("reading the index panicked")),
    }
}
