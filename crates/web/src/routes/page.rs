//! The first page: one self-contained HTML page with the state of targets and actors and the way to everything else.

use std::fmt::{self, Write as _};

use actix_web::HttpResponse;
use actix_web::http::header;

use crate::call::{Call, Reply};
use crate::json::time_text;
use crate::state::{ActorNode, ActorState, AppState, Readiness, TargetHealth};

/// Most targets the page lists; the API has them all.
const TARGETS_MAX: usize = 500;
/// Most actors the page lists; the API has them all.
const ACTORS_MAX: usize = 1000;

/// Routes worth a click.
const LINKS: &[&str] = &[
    "/metrics",
    "/api/v1/targets",
    "/api/v1/rules",
    "/api/v1/alerts",
    "/api/v1/alertmanagers",
    "/api/v1/status/config",
    "/api/v1/status/flags",
    "/api/v1/status/runtimeinfo",
    "/api/v1/status/buildinfo",
    "/api/v1/status/tsdb",
    "/api/v1/ext/actors",
    "/-/healthy",
    "/-/ready",
];

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222;background:#fff}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}.bad{color:#b00020;font-weight:600}.good{color:#1b6e2d}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}a{color:#8ab4f8}.bad{color:#ff8a80}.good{color:#81c995}}";

/// Paths of the pages that Prometheus has; until they exist here they lead to the first page.
pub(crate) async fn home(call: Call) -> Reply {
    let place = format!("{}/", call.state().options.route_prefix);
    Ok(HttpResponse::Found().insert_header((header::LOCATION, place)).finish())
}

pub(crate) async fn first(call: Call) -> Reply {
    let mut html = String::with_capacity(16 << 10);
    render(&mut html, call.state()).map_err(|error| crate::answer::ApiError::internal(error.to_string()))?;
    Ok(HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
        ))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .body(html))
}

fn render(html: &mut String, state: &AppState) -> fmt::Result {
    let prefix = Escaped(&state.options.route_prefix);
    let title = Escaped(&state.options.page_title);
    let build = state.status.build();
    let readiness = match state.status.readiness() {
        Readiness::Starting => "starting",
        Readiness::Ready => "ready",
        Readiness::Stopping => "stopping",
    };
    write!(
        html,
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head><body>"
    )?;
    write!(html, "<h1>{title}</h1><p>Version {}, {readiness}.</p><p>", Escaped(&build.version))?;
    for link in LINKS {
        write!(html, "<a href=\"{prefix}{link}\">{link}</a> &middot; ")?;
    }
    html.push_str("</p>");
    render_targets(html, state)?;
    render_actors(html, state)?;
    html.push_str("</body></html>\n");
    Ok(())
}

fn render_targets(html: &mut String, state: &AppState) -> fmt::Result {
    let pools = state.targets.pools();
    let total: usize = pools.iter().map(|pool| pool.active.len()).sum();
    write!(
        html,
        "<h2>Targets ({total})</h2><table><tr><th>Pool<th>Target<th>Labels<th>Health<th>Last scrape<th>Error</tr>"
    )?;
    for target in pools.iter().flat_map(|pool| &pool.active).take(TARGETS_MAX) {
        let class = match target.health {
            TargetHealth::Up => "good",
            TargetHealth::Down => "bad",
            TargetHealth::Unknown => "",
        };
        write!(
            html,
            "<tr><td>{}<td>{}<td>{}<td class=\"{class}\">{}<td>{}<td>{}</tr>",
            Escaped(&target.scrape_pool),
            Escaped(&target.scrape_url),
            Escaped(&target.labels.to_string()),
            target.health.name(),
            if target.last_scrape.is_some() { time_text(target.last_scrape) } else { "never".to_owned() },
            Escaped(&target.last_error),
        )?;
    }
    html.push_str("</table>");
    if total > TARGETS_MAX {
        write!(html, "<p>{} more are not shown here.</p>", total - TARGETS_MAX)?;
    }
    Ok(())
}

fn render_actors(html: &mut String, state: &AppState) -> fmt::Result {
    html.push_str("<h2>Actors</h2><table><tr><th>Actor<th>State<th>Restarts<th>Handled<th>Busy, s<th>Last error</tr>");
    let root = state.status.actors();
    // Depth first without recursion: the tree's depth is not ours to trust.
    let mut open: Vec<(&ActorNode, usize)> = vec![(&root, 0)];
    let mut shown = 0;
    while let Some((actor, depth)) = open.pop() {
        if shown == ACTORS_MAX {
            html.push_str("<tr><td colspan=\"6\">more are not shown here</tr>");
            break;
        }
        shown += 1;
        let class = if actor.state == ActorState::Running { "good" } else { "bad" };
        write!(
            html,
            "<tr><td style=\"padding-left:{}rem\">{} {}<td class=\"{class}\">{}<td>{}<td>{}<td>{}<td>{}</tr>",
            depth + 1,
            Escaped(&actor.kind),
            Escaped(&actor.name),
            actor.state.name(),
            actor.restarts,
            actor.handled,
            actor.busy_seconds,
            Escaped(&actor.last_error),
        )?;
        open.extend(actor.children.iter().rev().map(|child| (child, depth + 1)));
    }
    html.push_str("</table>");
    Ok(())
}

/// Text as part of HTML, also within quoted attributes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&#34;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_escaped() {
        assert_eq!(Escaped("<a href='x'>\"&\"</a>").to_string(), "&lt;a href=&#39;x&#39;&gt;&#34;&amp;&#34;&lt;/a&gt;");
    }
}
