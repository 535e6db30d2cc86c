//! Search for metric names, label names and label values, for input fields that complete what is typed. An answer is a line of
//! JSON for each batch of results, and a last one that says whether there would be more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use fk_model::{METRIC_NAME, Matcher};
use fk_storage::{Control, Storage, TimeRange};
use parking_lot::Mutex;

use crate::answer::{ApiError, ChunkWriter, Chunks, ErrorKind};
use crate::call::{Call, CancelOnDrop, Reply};
use crate::fuzzy::{ALGORITHMS, Wanted};
use crate::json;
use crate::params::{Params, parse_bool, parse_integer, parse_time};
use crate::selectors;
use crate::state::{MetricMetadata, TargetsView};

/// Results of an answer, and of a line, unless the request says otherwise.
pub(crate) const LIMIT_DEFAULT: usize = 100;
/// Most `search[]` of a request, as in Prometheus.
const TERMS_MAX: usize = 32;
/// Longest `search[]`: comparing takes the product of the lengths.
const TERM_BYTES_MAX: usize = 1024;
/// Without `start` the last hour is searched, ms.
const RANGE_DEFAULT_MS: i64 = 3_600_000;
/// Values between two looks at the clock.
const VALUES_PER_CHECK: usize = 1024;
/// How long the metadata of all targets is used again: one who types asks several times a second.
const METADATA_AGE_MAX: Duration = Duration::from_secs(5);

/// What is searched.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    MetricNames { with_metadata: bool },
    LabelNames,
    LabelValues { label: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Up,
    Down,
    Score,
}

/// A request that has been read.
#[derive(Debug)]
struct Request {
    range: TimeRange,
    selectors: Vec<Vec<Matcher>>,
    wanted: Option<Wanted>,
    order: Order,
    with_score: bool,
    limit: usize,
    batch: usize,
}

pub(crate) async fn metric_names(call: Call) -> Reply {
    search(call, "metric_names").await
}

pub(crate) async fn label_names(call: Call) -> Reply {
    search(call, "label_names").await
}

pub(crate) async fn label_values(call: Call) -> Reply {
    search(call, "label_values").await
}

async fn search(mut call: Call, name: &str) -> Reply {
    let options = &call.state().options;
    if !options.search {
        // Text as in Prometheus.
        return Err(ApiError::new(ErrorKind::Unavailable, "search API disabled"));
    }
    let limit_max = options.search_limit_max;
    let params = call.params().await?;
    let request = Request::read(&params, name, limit_max, chrono::Utc::now().timestamp_millis())?;
    let place = match name {
        "metric_names" => Place::MetricNames { with_metadata: switch(&params, "include_metadata", false)? },
        "label_names" => Place::LabelNames,
        // Text as in Prometheus.
        _ => match params.first("label") {
            "" => return Err(ApiError::bad_data("missing required parameter \"label\"")),
            label => Place::LabelValues { label: label.to_owned() },
        },
    };
    let storage = call.storage()?;
    let queries = &call.state().queries;
    let control = queries.board().control().with_deadline(Instant::now() + queries.settings().timeout);
    let _cancel = CancelOnDrop(control.clone());
    let shared = Arc::clone(&call.shared);
    let work = web::block(move || {
        let (results, has_more) = find(&*storage, &request, &place, &control)?;
        let metadata = (place == Place::MetricNames { with_metadata: true } && !results.is_empty())
            .then(|| shared.search_metadata.of(&*shared.state.targets));
        write(&request, &place, &results, has_more, metadata.as_deref(), &control)
    });
    match work.await {
        Ok(chunks) => Ok(HttpResponse::Ok()
            .content_type("application/x-ndjson; charset=utf-8")
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .body(chunks?)),
        Err(_) => Err(ApiError::internal("the search panicked")),
    }
}

fn switch(params: &Params, name: &str, default: bool) -> Result<bool, ApiError> {
    match params.first(name) {
        "" => Ok(default),
        // Text as in Prometheus.
        text => parse_bool(text).map_err(|_| ApiError::bad_data(format!("invalid {name} {text:?}: must be boolean"))),
    }
}

/// A number from 1 on.
fn positive(params: &Params, name: &str, default: usize) -> Result<usize, ApiError> {
    match params.first(name) {
        "" => Ok(default),
        text => match parse_integer(text).map(usize::try_from) {
            Ok(Ok(number @ 1..)) => Ok(number),
            // Text as in Prometheus.
            _ => Err(ApiError::bad_data(format!("invalid {name} {text:?}: must be a positive integer"))),
        },
    }
}

impl Request {
    /// Texts and their order as in Prometheus.
    fn read(params: &Params, place: &str, limit_max: usize, now_ms: i64) -> Result<Request, ApiError> {
        let time = |name: &str, default: i64| match params.first(name) {
            "" => Ok(default),
            text => parse_time(text)
                .map_err(|reason| ApiError::bad_data(format!("invalid time value for '{name}': {reason}"))),
        };
        let bad = |text: String| Err(ApiError::bad_data(text));
        let range =
            TimeRange { mint: time("start", now_ms.saturating_sub(RANGE_DEFAULT_MS))?, maxt: time("end", now_ms)? };
        if range.maxt < range.mint {
            return bad("end timestamp must not be before start timestamp".into());
        }
        let selectors = selectors::selecting_plainly(params.all("match[]"))?;
        let terms: Vec<&str> = params.all("search[]").collect();
        if terms.len() > TERMS_MAX {
            return bad(format!("too many search[] terms: got {}, maximum is {TERMS_MAX}", terms.len()));
        }
        if terms.iter().any(|term| term.len() > TERM_BYTES_MAX) {
            return bad(format!("search[] term is longer than {TERM_BYTES_MAX} bytes"));
        }
        let threshold = match params.first("fuzz_threshold") {
            "" => 0,
            text => match parse_integer(text) {
                Ok(percent @ 0..=100) => percent as u8,
                _ => return bad(format!("invalid fuzz_threshold {text:?}: must be 0-100")),
            },
        };
        let algorithm = Some(params.first("fuzz_alg")).filter(|name| !name.is_empty()).unwrap_or(ALGORITHMS[0]);
        if !ALGORITHMS.contains(&algorithm) {
            return bad(format!("unsupported fuzz_alg {algorithm:?}: must be one of [{}]", ALGORITHMS.join(" ")));
        }
        let case_sensitive = switch(params, "case_sensitive", true)?;
        let with_score = switch(params, "include_score", false)?;
        let (by, direction) = (params.first("sort_by"), params.first("sort_dir"));
        let order = match (by, direction) {
            ("", direction) if !direction.is_empty() => {
                return bad("sort_dir is only valid when sort_by is set".into());
            }
            ("score", direction) if !direction.is_empty() => {
                return bad("sort_dir is not supported for sort_by=score".into());
            }
            (_, direction) if !matches!(direction, "" | "asc" | "dsc") => {
                return bad(format!("invalid sort_dir {direction:?}: must be \"asc\" or \"dsc\""));
            }
            ("score", _) if terms.is_empty() => return bad("sort_by=score requires search[] to be set".into()),
            ("score", _) => Order::Score,
            (_, "dsc") => Order::Down,
            _ => Order::Up,
        };
        let capped = |limit: usize| if limit_max == 0 { limit } else { limit.min(limit_max) };
        let limit = positive(params, "limit", capped(LIMIT_DEFAULT))?;
        if limit > capped(limit) {
            return bad(format!(
                "limit {limit} exceeds the configured maximum ({limit_max}, see --web.search.max-limit)"
            ));
        }
        let batch = positive(params, "batch_size", LIMIT_DEFAULT)?;
        if !matches!(by, "" | "alpha" | "score") {
            return bad(format!("invalid sort_by {by:?} for {place}: must be \"alpha\" or \"score\""));
        }
        let wanted = Wanted::new(terms, threshold, algorithm == ALGORITHMS[1], case_sensitive);
        Ok(Request { range, selectors, wanted, order, with_score, limit, batch })
    }
}

/// The results in order, at most as many as wanted, and whether there are more.
fn find(
    storage: &dyn Storage,
    request: &Request,
    place: &Place,
    control: &Control,
) -> Result<(Vec<(String, f64)>, bool), ApiError> {
    let mut memory = control.reserve();
    let mut ask = |matchers: &[Matcher]| -> Result<Vec<String>, ApiError> {
        let found = match place {
            Place::MetricNames { .. } => storage.label_values(METRIC_NAME, request.range, matchers, control)?,
            Place::LabelNames => storage.label_names(request.range, matchers, control)?,
            Place::LabelValues { label } => storage.label_values(label, request.range, matchers, control)?,
        };
        memory.grow(found.iter().map(|text| text.len() + size_of::<String>()).sum())?;
        Ok(found)
    };
    let values = match &request.selectors[..] {
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
    let mut results = Vec::new();
    for (at, value) in values.into_iter().enumerate() {
        if at % VALUES_PER_CHECK == VALUES_PER_CHECK - 1 {
            control.check()?;
        }
        if let Some(score) = request.wanted.as_ref().map_or(Some(1.0), |wanted| wanted.score(&value)) {
            results.push((value, score));
        }
    }
    match request.order {
        // As they come.
        Order::Up => {}
        Order::Down => results.reverse(),
        // Stable: equal scores stay in order of name.
        Order::Score => results.sort_by(|(_, a), (_, b)| b.total_cmp(a)),
    }
    let has_more = results.len() > request.limit;
    results.truncate(request.limit);
    Ok((results, has_more))
}

fn write(
    request: &Request,
    place: &Place,
    results: &[(String, f64)],
    has_more: bool,
    metadata: Option<&Metadata>,
    control: &Control,
) -> Result<Chunks, ApiError> {
    let mut out = ChunkWriter::within(control);
    let key = if matches!(place, Place::LabelValues { .. }) { "{\"value\":" } else { "{\"name\":" };
    let mut warnings = control.take_warnings();
    warnings.sort_unstable();
    // The first line is there even without results, so that warnings have a place.
    let mut batches = results.chunks(request.batch);
    let mut batch = Some(batches.next().unwrap_or(&[]));
    while let Some(results) = batch {
        out.buffer().extend_from_slice(b"{\"results\":[");
        for (at, (value, score)) in results.iter().enumerate() {
            let buffer = out.buffer();
            if at > 0 {
                buffer.push(b',');
            }
            buffer.extend_from_slice(key.as_bytes());
            json::write_text(buffer, value);
            if request.with_score {
                buffer.extend_from_slice(b",\"score\":");
                json::write_float(buffer, *score);
            }
            if let Some(found) = metadata.and_then(|metadata| metadata.get(value)) {
                for (key, text) in
                    [(",\"type\":", &found.kind), (",\"help\":", &found.help), (",\"unit\":", &found.unit)]
                {
                    if !text.is_empty() {
                        buffer.extend_from_slice(key.as_bytes());
                        json::write_text(buffer, text);
                    }
                }
            }
            buffer.push(b'}');
            out.spill()?;
        }
        out.buffer().push(b']');
        if !warnings.is_empty() {
            out.buffer().extend_from_slice(b",\"warnings\":[");
            for (at, warning) in std::mem::take(&mut warnings).iter().enumerate() {
                if at > 0 {
                    out.buffer().push(b',');
                }
                json::write_text(out.buffer(), warning);
            }
            out.buffer().push(b']');
        }
        out.buffer().extend_from_slice(b"}\n");
        batch = batches.next();
    }
    let trailer = format!("{{\"status\":\"success\",\"has_more\":{has_more}}}\n");
    out.buffer().extend_from_slice(trailer.as_bytes());
    Ok(out.into_chunks())
}

/// What the targets say of each metric, the first one that knows it.
pub(crate) type Metadata = HashMap<String, MetricMetadata>;

/// Metadata of all targets, for a short while.
#[derive(Debug, Default)]
pub(crate) struct MetadataCache(Mutex<Option<(Instant, Arc<Metadata>)>>);

impl MetadataCache {
    fn of(&self, targets: &dyn TargetsView) -> Arc<Metadata> {
        // Held while the map is made: those who come meanwhile would make the same.
        let mut kept = self.0.lock();
        if let Some((made, metadata)) = &*kept
            && made.elapsed() < METADATA_AGE_MAX
        {
            return Arc::clone(metadata);
        }
        let mut all = Metadata::new();
        for found in targets.metadata(None).into_iter().flat_map(|target| target.metrics) {
            all.entry(found.metric.clone()).or_insert(found);
        }
        let all = Arc::new(all);
        *kept = Some((Instant::now(), Arc::clone(&all)));
        all
    }
}
