//! prometheus-http-query of crates.io against the server whose URL is given.

use prometheus_http_query::{Client, Selector, TargetState};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("the URL is missing")?;
    let client: Client = url.parse()?;
    assert!(client.is_server_healthy().await? && client.is_server_ready().await?);

    let answer = client.query("sort(pushed{job='clients'})").get().await?;
    let vector = answer.data().as_vector().ok_or("no vector")?;
    assert_eq!(vector.iter().map(|series| series.sample().value()).collect::<Vec<_>>(), [1.5, 2.5]);

    let answer = client.query_range("vector(3)", 1_000, 1_030, 15.0).get().await?;
    let matrix = answer.data().as_matrix().ok_or("no matrix")?;
    assert_eq!(matrix[0].samples().iter().map(|sample| sample.value()).collect::<Vec<_>>(), [3.0; 3]);

    let selector = Selector::new().metric("pushed").eq("job", "clients");
    let series = client.series([&selector])?.get().await?;
    assert_eq!(series.len(), 2);
    assert_eq!(client.label_values("a").get().await?, ["1", "2"]);

    let targets = client.targets(Some(TargetState::Active)).await?;
    assert_eq!(targets.active().len(), 1);
    assert!(client.rules().get().await?.is_empty() && client.alerts().await?.is_empty());
    assert_eq!(client.build_information().await?.version(), "3.14.0");
    client.runtime_information().await?;
    client.tsdb_statistics().await?;
    client.wal_replay_statistics().await?;
    client.flags().await?;
    assert!(client.query("up(").get().await.is_err());
    Ok(())
}
