//! Remote read over HTTP. What is in the answers is tested in `fk-remote`.

use actix_web::test::TestRequest;

use super::fakes::{Got, World, labels};

/// A field of a message that holds bytes; all here are shorter than 128.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat()
}

/// A request for the series with this name.
fn request(name: &str, kinds: &[u8]) -> Vec<u8> {
    let matcher = [field(2, b"__name__"), field(3, name.as_bytes())].concat();
    let query = [&[1 << 3, 0, 2 << 3, 0xff, 0x7f][..], &field(3, &matcher)].concat();
    let message = [field(1, &query), field(2, kinds)].concat();
    snap::raw::Encoder::new().compress_vec(&message).unwrap()
}

async fn read(world: &World, body: Vec<u8>) -> Got {
    world.send(TestRequest::post().uri("/api/v1/read").set_payload(body)).await
}

#[actix_web::test]
async fn samples_are_read_in_both_forms() {
    let world = World::with(|options| options.read_samples_max = 2);
    for (name, samples) in [("few", 2), ("many", 3)] {
        let samples: Vec<(i64, f64)> = (0..samples).map(|n| (n + 1, 1.0)).collect();
        world.storage.add(&labels(&[("__name__", name)]), &samples);
    }
    let got = read(&world, request("few", &[])).await;
    assert_eq!((got.status.as_u16(), got.header("content-type")), (200, "application/x-protobuf"));
    assert_eq!(got.header("content-encoding"), "snappy");

    // The limit is for what is answered as a whole.
    let got = read(&world, request("many", &[0])).await;
    assert_eq!((got.status.as_u16(), got.body.as_str()), (400, "exceeded sample limit (2)\n"));
    let got = read(&world, request("many", &[1])).await;
    assert_eq!(got.status.as_u16(), 200);
    let expected = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    assert_eq!(got.header("content-type"), expected);
    assert!(got.body.contains("many"), "{}", got.body);
    let got = read(&world, request("none", &[1])).await;
    assert_eq!((got.status.as_u16(), got.body.as_str()), (200, ""));

    assert_eq!(read(&world, b"x".to_vec()).await.body, "snappy: corrupt input\n");
    assert_eq!(read(&world, request("few", &[9])).await.status.as_u16(), 400);
    let metrics = world.get("/metrics?name[]=prometheus_remote_read_handler_queries").await.body;
    assert!(metrics.ends_with("prometheus_remote_read_handler_queries 0\n"), "{metrics}");
}
