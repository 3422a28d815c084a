using System.Text;
using CsCheck;

namespace Sessions.Tests.Fuzz;

/// <summary>Requests that are not what HTTP/1.1 says they should be: lengths that lie, old and unknown versions, torn heads.</summary>
internal static class FuzzFraming
{
    private const string Body = """{"query":"framed","thread_id":"s1","user_id":"user 1/é"}""";

    private static readonly int Length = Encoding.UTF8.GetByteCount(Body);

    private static readonly string[] Lengths =
    [
        $"Content-Length: {Length + 10}", $"Content-Length: {Length - 5}", "Content-Length: -1", "Content-Length: x", "Content-Length: 1e3",
        "Content-Length: 99999999999999999999", "Content-Length: 9223372036854775807",
        $"Content-Length: {Length}\r\nContent-Length: {Length}", $"Content-Length: {Length}\r\nContent-Length: {Length + 1}",
        $"Content-Length: {Length}, {Length}", $"Content-Length: +{Length}", "Content-Length: ",
        $"Content-Length: {Length}\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked", "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, gzip", "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: xchunked",
        $"Expect: 100-continue\r\nContent-Length: {Length}", $"Expect: nonsense\r\nContent-Length: {Length}",
        $"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: {Length}",
    ];

    private static readonly string[] Chunks =
    [
        "5\r\n{\"que\r\n", "zz\r\nabc\r\n0\r\n\r\n", "-1\r\n\r\n", "FFFFFFFFFFFFFFFF\r\nabc", "7fffffff\r\nabc",
        "3;ext=\"a\"\r\n{ }\r\n0\r\nTrailer: x\r\n\r\n", "3\r\n{ }0\r\n\r\n", "0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "2\n{}\n0\n\n", "\r\n\r\n",
    ];

    private static readonly string[] Heads =
    [
        "GET / HTTP/1.0\r\n\r\n", "GET /sessions/s1 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", "GET /\r\n",
        "GET / HTTP/0.9\r\n\r\n", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", "GET / HTTP/3.0\r\nHost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET http://elsewhere/sessions/stats HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "GET / HTTP/1.1\nHost: a\n\n", "GET  /  HTTP/1.1\r\nHost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nNoColon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nName : value\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nFolded: a\r\n b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "G@T / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n", "GET",
        "\r\n\r\n\r\n", "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", "\0\0\0\0",
        $"GET /{new string('p', 9000)} HTTP/1.1\r\nHost: a\r\n\r\n", $"{new string('G', 9000)} / HTTP/1.1\r\nHost: a\r\n\r\n",
        $"GET / HTTP/1.1\r\nHost: a\r\nX: {new string('v', 40_000)}\r\n\r\n",
        $"GET / HTTP/1.1\r\nHost: a\r\n{string.Concat(Enumerable.Range(0, 150).Select(i => $"X{i}: {i}\r\n"))}\r\n",
    ];

    /// <summary>Spoilt requests; some are good ones that were cut somewhere or have a byte that is another.</summary>
    public static Gen<FuzzRequest> Spoilt(Gen<FuzzRequest> good) => Gen.OneOf(
        Gen.OneOf(Heads).Select(head => Broken(Encoding.Latin1.GetBytes(head))),
        Gen.Select(Gen.OneOf(Lengths), Gen.OneOf("1.0", "1.1", "1.1", "1.1"), (length, version) => Broken(
            Encoding.UTF8.GetBytes($"POST /query HTTP/{version}\r\nHost: a\r\nContent-Type: application/json\r\n{length}\r\n\r\n{Body}"))),
        Gen.OneOf(Chunks).Select(chunks => Broken(Encoding.UTF8.GetBytes(
            $"POST /query HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"))),
        Gen.Select(good, Gen.Int[0, 400], Gen.Byte, Gen.Int[0, 2], (request, at, value, kind) =>
        {
            var bytes = request.Bytes;
            at = Math.Min(at, bytes.Length - 1);
            return Broken(kind switch
            {
                0 => bytes[..at],
                1 => [.. bytes[..at], value, .. bytes[at..]],
                _ => [.. bytes[..at], value, .. bytes[(at + 1)..]],
            });
        }),
        Gen.Byte.Array[0, 200].Select(Broken));

    private static FuzzRequest Broken(byte[] bytes) => new(bytes, [], Broken: true);
}
