//! `/debug/pprof`, the profiles of Go programs. What they show belongs to Go's runtime; what this program can tell in its place is
//! there, and the rest is refused with a status that says so, since an empty profile would look like an idle server.

use actix_web::HttpResponse;
use actix_web::http::{Method, StatusCode, header};

use crate::answer;
use crate::call::{Call, Reply};

/// Profiles of Go that have no counterpart here, and what to look at instead.
const NOT_BUILT: &[(&str, &str)] = &[
    ("allocs", "/api/v1/ext/queries shows the memory of queries, process_resident_memory_bytes that of the process"),
    ("block", "/api/v1/ext/actors shows what actors wait for"),
    ("fgprof", "perf(1) records where the program spends its time"),
    ("goroutine", "/api/v1/ext/actors shows every actor and what it does"),
    ("heap", "/api/v1/ext/queries shows the memory of queries, process_resident_memory_bytes that of the process"),
    ("mutex", "/api/v1/ext/actors shows actors that hang"),
    ("profile", "perf(1) records where the program spends its time"),
    ("threadcreate", "process_threads in /metrics counts threads"),
    ("trace", "perf(1) records where the program spends its time"),
];

pub(crate) async fn debug(call: Call) -> Reply {
    let prefix = call.state().options.route_prefix.as_str();
    let path = call.req.uri().path();
    let below = path.strip_prefix(prefix).and_then(|path| path.strip_prefix("/debug")).unwrap_or("");
    if below == "/pprof" {
        return Ok(HttpResponse::MovedPermanently().insert_header((header::LOCATION, format!("{path}/"))).finish());
    }
    let Some(name) = below.strip_prefix("/pprof/") else {
        return Ok(answer::text(StatusCode::NOT_FOUND, "404 page not found\n"));
    };
    Ok(match name {
        "" => index(),
        "cmdline" => answer::text(StatusCode::OK, std::env::args().collect::<Vec<_>>().join("\0")),
        // What `pprof` asks to find out whether symbols can be looked up here; they cannot.
        "symbol" => {
            answer::text(StatusCode::OK, if call.req.method() == Method::GET { "num_symbols: 0\n" } else { "" })
        }
        _ => match NOT_BUILT.iter().find(|(known, _)| *known == name) {
            Some((name, instead)) => {
                answer::text(StatusCode::NOT_IMPLEMENTED, format!("firekeeper has no profile {name:?}: {instead}\n"))
            }
            None => answer::text(StatusCode::NOT_FOUND, "Unknown profile\n"),
        },
    })
}

fn index() -> HttpResponse {
    let mut text = "cmdline\nsymbol\n\nnot there:\n".to_owned();
    for (name, instead) in NOT_BUILT {
        text.push_str(&format!("{name}: {instead}\n"));
    }
    answer::text(StatusCode::OK, text)
}
