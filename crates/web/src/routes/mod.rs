//! The routes. [`ROUTES`] is the table of all of them; the handlers stand in the modules beside.

mod actors;
mod config;
mod debug;
mod federate;
pub(crate) mod files;
mod labels;
mod lifecycle;
mod page;
mod queries;
pub(crate) mod query;
pub(crate) mod read;
mod rules;
pub(crate) mod search;
mod status;
mod storage;
mod targets;
mod tree;
pub(crate) mod write;

use crate::call::Methods::{self, Change, Get, GetHead, GetPost, Post};
use crate::call::{Call, Cors, Gate, Route, Work};

/// Makes a handler out of an async function.
macro_rules! handler {
    ($function:path) => {{
        fn boxed(call: Call) -> Work {
            Box::pin($function(call))
        }
        boxed
    }};
}

/// A route of the read API.
const fn api(path: &'static str, methods: Methods, handler: fn(Call) -> Work) -> Route {
    Route { path, label: path, methods, gate: Gate::WhenReady, cors: Cors::Allow, handler }
}

/// The same, answering also while the server starts and stops.
const fn api_always(path: &'static str, handler: fn(Call) -> Work) -> Route {
    Route { path, label: path, methods: Methods::Get, gate: Gate::Open, cors: Cors::Allow, handler }
}

/// A page that answers always.
const fn page(path: &'static str, methods: Methods, handler: fn(Call) -> Work) -> Route {
    Route { path, label: path, methods, gate: Gate::Open, cors: Cors::Silent, handler }
}

/// A route that changes something: refused to pages of other origins.
const fn change(path: &'static str, methods: Methods, gate: Gate, handler: fn(Call) -> Work) -> Route {
    Route { path, label: path, methods, gate, cors: Cors::Refuse, handler }
}

/// Every route, below the route prefix.
pub(crate) static ROUTES: &[Route] = &[
    page("/", Get, handler!(page::first)),
    page("/graph", Get, handler!(page::graph)),
    page("/query", Get, handler!(page::app)),
    page("/alerts", Get, handler!(page::app)),
    page("/rules", Get, handler!(page::app)),
    page("/targets", Get, handler!(page::app)),
    page("/service-discovery", Get, handler!(page::app)),
    page("/alertmanager-discovery", Get, handler!(page::app)),
    page("/status", Get, handler!(page::app)),
    page("/tsdb-status", Get, handler!(page::app)),
    page("/config", Get, handler!(page::app)),
    page("/flags", Get, handler!(page::app)),
    page("/agent", Get, handler!(page::app)),
    page("/system", Get, handler!(page::app)),
    page("/queries", Get, handler!(page::app)),
    page("/relabel", Get, handler!(page::app)),
    page("/backtest", Get, handler!(page::app)),
    page("/cardinality", Get, handler!(page::app)),
    Route { label: "/assets/*filepath", ..page("/assets/{name}", Get, handler!(page::asset)) },
    page("/favicon.svg", Get, handler!(page::asset)),
    page("/metrics", Get, handler!(status::metrics)),
    page("/version", Get, handler!(status::version)),
    Route { label: files::USER_LABEL, ..page("/user/{path:.*}", Get, handler!(files::user)) },
    Route { label: "/debug/*subpath", ..page("/debug/{path:.*}", GetPost, handler!(debug::debug)) },
    page("/-/healthy", GetHead, handler!(lifecycle::healthy)),
    Route { gate: Gate::WhenReady, ..page("/-/ready", GetHead, handler!(lifecycle::ready)) },
    change("/-/reload", Change, Gate::Open, handler!(lifecycle::reload)),
    change("/-/quit", Change, Gate::Open, handler!(lifecycle::quit)),
    Route { gate: Gate::WhenReady, ..page("/federate", Get, handler!(federate::federate)) },
    api("/api/v1/query", GetPost, handler!(query::instant)),
    api("/api/v1/query_range", GetPost, handler!(query::range)),
    api("/api/v1/query_exemplars", GetPost, handler!(query::exemplars)),
    api("/api/v1/format_query", GetPost, handler!(query::format)),
    api("/api/v1/parse_query", GetPost, handler!(query::parse)),
    api("/api/v1/labels", GetPost, handler!(labels::names)),
    Route { label: "/api/v1/label/:name/values", ..api("/api/v1/label/{name}/values", Get, handler!(labels::values)) },
    api("/api/v1/search/metric_names", GetPost, handler!(search::metric_names)),
    api("/api/v1/search/label_names", GetPost, handler!(search::label_names)),
    api("/api/v1/search/label_values", GetPost, handler!(search::label_values)),
    api("/api/v1/series", GetPost, handler!(labels::series)),
    api("/api/v1/scrape_pools", Get, handler!(targets::pools)),
    api("/api/v1/scrape_pools/config", Get, handler!(targets::pool_config)),
    api("/api/v1/targets", Get, handler!(targets::targets)),
    api("/api/v1/targets/metadata", Get, handler!(targets::target_metadata)),
    api("/api/v1/targets/relabel_steps", Get, handler!(targets::relabel_steps)),
    api("/api/v1/metadata", Get, handler!(targets::metadata)),
    api("/api/v1/alertmanagers", Get, handler!(targets::alertmanagers)),
    api("/api/v1/rules", Get, handler!(rules::rules)),
    api("/api/v1/alerts", Get, handler!(rules::alerts)),
    api("/api/v1/status/config", Get, handler!(status::config)),
    api("/api/v1/status/flags", Get, handler!(status::flags)),
    api("/api/v1/status/buildinfo", Get, handler!(status::buildinfo)),
    api("/api/v1/status/runtimeinfo", Get, handler!(status::runtimeinfo)),
    api("/api/v1/status/tsdb", Get, handler!(status::tsdb)),
    api("/api/v1/status/tsdb/blocks", Get, handler!(storage::blocks)),
    api("/api/v1/status/self_metrics", Get, handler!(status::self_metrics)),
    api_always("/api/v1/status/walreplay", handler!(status::walreplay)),
    api_always("/api/v1/notifications", handler!(status::notifications)),
    api_always("/api/v1/notifications/live", handler!(status::live_notifications)),
    api("/api/v1/features", Get, handler!(status::features)),
    api("/api/v1/openapi.yaml", Get, handler!(status::openapi)),
    api_always("/api/v1/ext/actors", handler!(actors::tree)),
    api_always("/api/v1/ext/actors/live", handler!(actors::live)),
    api("/api/v1/ext/alerts/history", Get, handler!(rules::history)),
    api("/api/v1/ext/rules/backtest", Post, handler!(rules::backtest)),
    api("/api/v1/ext/targets/scrapes", Get, handler!(targets::scrapes)),
    api("/api/v1/ext/targets/{id}/scrapes", Get, handler!(targets::scrapes_of)),
    change("/api/v1/ext/targets/{id}/scrape", Post, Gate::WhenReady, handler!(targets::try_scrape)),
    api_always("/api/v1/ext/storage", handler!(storage::health)),
    api_always("/api/v1/ext/queries", handler!(queries::list)),
    change("/api/v1/ext/queries/cancel", Post, Gate::Open, handler!(queries::cancel)),
    change("/api/v1/ext/config/plan", Post, Gate::WhenReady, handler!(config::plan)),
    api_always("/api/v1/ext/config/journal", handler!(config::journal)),
    api("/api/v1/ext/relabel/try", Post, handler!(config::try_relabelling)),
    #[cfg(feature = "chaos")]
    change("/api/v1/ext/chaos/{kind}", Post, Gate::Open, handler!(lifecycle::chaos)),
    change("/api/v1/read", Post, Gate::WhenReady, handler!(read::read)),
    change("/api/v1/write", Post, Gate::WhenReady, handler!(write::write)),
    change("/api/v1/admin/tsdb/delete_series", Change, Gate::WhenReady, handler!(storage::delete_series)),
    change("/api/v1/admin/tsdb/clean_tombstones", Change, Gate::WhenReady, handler!(storage::clean_tombstones)),
    change("/api/v1/admin/tsdb/snapshot", Change, Gate::WhenReady, handler!(storage::snapshot)),
];
