//! The remote-write receiver.

use actix_web::test::TestRequest;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::fakes::{Got, World, labels};

fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 128, "one byte of length");
    [&[number << 3 | 2, payload.len() as u8], payload].concat()
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 128 {
        out.push(n as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

/// A `prometheus.WriteRequest` with one series.
fn message(pairs: &[(&str, &str)], samples: &[(i64, f64)]) -> Vec<u8> {
    let labels = pairs.iter().flat_map(|(n, v)| field(1, &[field(1, n.as_bytes()), field(2, v.as_bytes())].concat()));
    let samples = samples
        .iter()
        .flat_map(|(t, v)| field(2, &[&[0x09], &v.to_le_bytes()[..], &[0x10], &varint(*t as u64)].concat()));
    field(1, &labels.chain(samples).collect::<Vec<_>>())
}

fn packed(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

async fn write(world: &World, body: Vec<u8>) -> Got {
    let request = TestRequest::post().uri("/api/v1/write").insert_header(("content-type", "application/x-protobuf"));
    world.send(request.insert_header(("content-encoding", "snappy")).set_payload(body)).await
}

fn receiving() -> World {
    World::with(|options| options.remote_write_receiver = true)
}

#[actix_web::test]
async fn without_its_flag_the_route_says_which() {
    let got = write(&World::new(), packed(b"")).await;
    assert_eq!(got.status.as_u16(), 404);
    assert_eq!(got.body, "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n");
}

#[actix_web::test]
async fn samples_are_stored_and_refusals_are_named() {
    let world = receiving();
    let up = [("__name__", "up"), ("job", "a")];
    let got = write(&world, packed(&message(&up, &[(1000, 1.0), (2000, 2.0)]))).await;
    assert_eq!((got.status.as_u16(), got.body.as_str()), (204, ""));
    assert_eq!(world.storage.dump()[&labels(&up)], [(1000, 1.0), (2000, 2.0)]);

    let got = write(&world, packed(&message(&up, &[(1500, 1.0)]))).await;
    assert!(got.status.as_u16() == 400 && got.body.starts_with("out of order sample"), "{got:?}");
    let got = write(&world, packed(&message(&[("job", "nameless")], &[(1500, 1.0)]))).await;
    assert_eq!(got.status.as_u16(), 400, "{got:?}");
    let metrics = world.get("/metrics").await.body;
    assert!(metrics.contains("\nprometheus_api_remote_write_invalid_labels_samples_total 1\n"), "{metrics}");
}

#[actix_web::test]
async fn what_is_stored_is_durable_before_it_is_answered() {
    let world = receiving();
    let up = [("__name__", "up"), ("job", "a")];
    write(&world, packed(&message(&up, &[(1000, 1.0)]))).await;
    assert_eq!(world.storage.made_durable(), 1);
    // Partly stored, then not at all.
    write(&world, packed(&message(&up, &[(500, 1.0), (2000, 1.0)]))).await;
    assert_eq!(world.storage.made_durable(), 2);
    write(&world, packed(&message(&up, &[(500, 1.0)]))).await;
    assert_eq!(world.storage.made_durable(), 2);
}

#[actix_web::test]
async fn a_storage_that_takes_nothing_is_asked_again_later() {
    let world = receiving();
    world.storage.refuse(Some("no space left on device"));
    let up = message(&[("__name__", "up"), ("job", "a")], &[(1000, 1.0)]);
    let got = write(&world, packed(&up)).await;
    assert_eq!(got.status.as_u16(), 503);
    assert_eq!(got.body, "storage is read-only: no space left on device\n");
    assert_eq!(got.headers.get("retry-after").and_then(|v| v.to_str().ok()), Some("5"));
    world.storage.refuse(None);
    assert_eq!(write(&world, packed(&up)).await.status.as_u16(), 204);
}

#[actix_web::test]
async fn other_media_and_large_bodies_are_refused() {
    let world = receiving();
    let request = TestRequest::post().uri("/api/v1/write").insert_header(("content-encoding", "zstd"));
    assert_eq!(world.send(request).await.status.as_u16(), 415);
    let request = TestRequest::post().uri("/api/v1/write").insert_header(("content-type", "text/plain"));
    assert_eq!(world.send(request).await.status.as_u16(), 415);
    assert_eq!(write(&world, vec![0; (32 << 20) + 1]).await.status.as_u16(), 413);
    // Claims to hold 4 GiB.
    assert_eq!(write(&world, [&b"\xff\xff\xff\xff\x0f"[..], &[0; 20]].concat()).await.status.as_u16(), 413);
}

#[actix_web::test]
async fn damaged_bodies_are_the_senders_mistake() {
    let world = receiving();
    let good = message(&[("__name__", "up"), ("job", "a")], &[(1000, 1.0)]);
    let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Fixed(1), ..Config::default() });
    let damage =
        (proptest::collection::vec((0..good.len(), 0u8..=255), 1..6), 0..=good.len(), 0..2usize, 0..64usize, 0u8..=255);
    for _ in 0..700 {
        let (changes, len, twice, at, byte) = damage.new_tree(&mut runner).unwrap().current();
        let mut body = good.clone();
        changes.iter().for_each(|(at, byte)| body[*at] = *byte);
        let mut body = packed(&body[..len]);
        if twice == 1 {
            let at = at % body.len();
            body[at] = byte;
        }
        let got = write(&world, body.clone()).await;
        assert!(got.status.as_u16() < 500, "{got:?} for {body:?}");
    }
}
