//! What the last scrapes of targets were like, and scrapes on demand that store nothing.

use std::sync::Arc;

use chrono::Utc;
use fk_http::Stopwatch;
use fk_scrape::{DroppedBy, Fetched, FetchedBody, KeptBody, PastScrape, Stages, Target, accept_header, rehearse};
use fk_web::state::{self, DroppedSamples, ScrapeStages, TargetScrapes, TrialError, TrialScrape};
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::Instant;

use crate::actors::scrape_loop::{TargetStatus, fetch_stages, request, socket_client};
use crate::actors::scrape_manager::ScrapeState;
use crate::app::App;
use crate::messages::scrape::JobSpec;

/// Scrapes on demand at a time: each may hold a body as large as bodies may be.
pub(super) const TRIALS_MAX: usize = 2;

/// What is remembered of a target.
pub(super) fn of_target(pool: &str, target: &Target, status: &TargetStatus) -> TargetScrapes {
    let (scrapes, failed_body) = status.history();
    TargetScrapes {
        id: id(pool, target),
        scrape_pool: pool.to_owned(),
        scrape_url: target.url.clone(),
        labels: target.public_labels.clone(),
        scrapes: scrapes.into_iter().map(shown).collect(),
        failed_body: failed_body.map(|body| shown_body(&body)),
    }
}

fn id(pool: &str, target: &Target) -> String {
    format!("{:016x}", target.key(pool))
}

/// The target with this id.
pub(super) fn find(state: &ScrapeState, id: &str) -> Option<(JobSpec, Arc<Target>, Arc<TargetStatus>)> {
    let key = u64::from_str_radix(id, 16).ok().filter(|_| id.len() == 16)?;
    state.pools().into_iter().find_map(|pool| {
        let view = pool.view();
        let found = view.targets.into_iter().find(|(target, _)| target.key(&view.spec.config.job_name) == key);
        found.map(|(target, status)| (view.spec, target, status))
    })
}

/// Scrapes a target as its loop does, but hands nothing to the storage.
pub(super) async fn try_scrape(app: &App, trials: &Semaphore, id: &str) -> Result<TrialScrape, TrialError> {
    let (spec, target, _) = find(&app.scrape, id).ok_or(TrialError::NotFound)?;
    let _permit = trials.try_acquire().map_err(|_| TrialError::Busy(TRIALS_MAX))?;
    let settings = app.settings.scrape();
    let client = socket_client(&target, &spec.config).unwrap_or_else(|| Ok(spec.client.clone()));
    let (watch, began, at_ms) = (Stopwatch::default(), Instant::now(), Utc::now().timestamp_millis());
    let accept = accept_header(&spec.config);
    let request = request(&target, &spec.config, &accept, &settings.user_agent, Some(&watch));
    let mut body = Vec::new();
    let response = match client {
        Ok(client) => client.scrape(&request, &mut body).await.map_err(|e| (e.is_body_size_limit(), e.to_string())),
        Err(error) => Err((false, error)),
    };
    let fetch_s = began.elapsed().as_secs_f64();
    let stages = fetch_stages(watch.timings(), fetch_s);
    let (job, of, features) = (Arc::clone(&spec.config), Arc::clone(&target), settings.features);
    // A large body takes its time, and this thread has other requests.
    let rehearsal = tokio::task::spawn_blocking(move || {
        let (fetched, kept) = match &response {
            Ok(response) => {
                let body = body.get(response.body_at..).unwrap_or_default();
                let fetched = Fetched::Body { body, content_type: &response.content_type };
                (fetched, (body, response.content_type.as_str(), response.wire_bytes))
            }
            Err((is_limit, reason)) => (Fetched::Failed { reason, body_size_limit_hit: *is_limit }, (&[][..], "", 0)),
        };
        let outcome = rehearse(&of, &job, features, fetched, at_ms, || began.elapsed().as_secs_f64());
        let (body, content_type, wire_bytes) = kept;
        let parse_s = (!body.is_empty()).then_some((outcome.duration_s - fetch_s).max(0.0) as f32);
        let fetched = FetchedBody { body, content_type, wire_bytes, fetch_s, stages: Stages { parse_s, ..stages } };
        // Shown once and gone: it has a budget of its own.
        let body = (!body.is_empty()).then(|| shown_body(&KeptBody::new(at_ms, fetched, &outcome, &Arc::default())));
        (shown(PastScrape::new(at_ms, fetched, &outcome)), body)
    });
    let (scrape, body) = match rehearsal.await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_cancelled)) => return Err(TrialError::Stopping),
    };
    let pool = spec.config.job_name.clone();
    Ok(TrialScrape { id: id.to_owned(), scrape_pool: pool, scrape_url: target.url.clone(), scrape, body })
}

fn shown(past: PastScrape) -> state::PastScrape {
    let dropped = past.dropped.iter().flat_map(|dropped| dropped.iter());
    let Stages { dns_s, connect_s, tls_s, first_byte_s, body_s, parse_s, append_s } = past.stages;
    state::PastScrape {
        time: past.at_ms,
        fetch_seconds: past.fetch_s,
        stages: ScrapeStages {
            dns_seconds: dns_s,
            connect_seconds: connect_s,
            tls_seconds: tls_s,
            first_byte_seconds: first_byte_s,
            body_seconds: body_s,
            parse_seconds: parse_s,
            append_seconds: append_s,
        },
        duration_seconds: past.duration_s,
        wire_bytes: past.wire_bytes,
        body_bytes: past.body_bytes,
        samples_scraped: past.scraped,
        samples_post_metric_relabeling: past.post_relabel,
        series_added: past.series_added,
        dropped: dropped
            .map(|(by, series)| DroppedSamples { rule: (*by != DroppedBy::NO_LABELS).then_some(by.0), series: *series })
            .collect(),
        error: past.error.map(String::from).unwrap_or_default(),
    }
}

fn shown_body(body: &KeptBody) -> state::KeptBody {
    state::KeptBody {
        time: body.at_ms,
        error: body.error.clone(),
        content_type: body.content_type.clone(),
        body_bytes: body.body_bytes,
        text: String::from_utf8_lossy(&body.kept).into_owned(),
        first_line: body.first_line,
        line: body.place.map(|(line, _)| line),
        column: body.place.map(|(_, column)| column),
    }
}
