using System.Buffers;
using System.Text.Json;
using BenchmarkDotNet.Attributes;

namespace Sessions.Bench.Micro;

/// <summary>JSON in and out, with texts of about 100 characters.</summary>
[MemoryDiagnoser]
public class JsonBenchmarks
{
    private static readonly byte[] Query = """
        {"query": "I prefer the quiet desk near the window: what do you recommend for the long, warm afternoon?",
        "thread_id": "0199f3a0-5c1e-7e62-8f0a-5b7a9d1c2e3f", "user_id": "user-0001"}
        """u8.ToArray();

    private readonly ArrayBufferWriter<byte> _output = new(4096);
    private readonly Utf8JsonWriter _writer;
    private readonly Session _session;
    private readonly TurnResult _result;

    public JsonBenchmarks()
    {
        _writer = new Utf8JsonWriter(_output, new JsonWriterOptions { Encoder = ApiJson.Wire.Options.Encoder, SkipValidation = true });
        var turn = Sqlite.Bench.NewTurn(7, response: Sqlite.Bench.Query);
        _session = new Session
        {
            Id = "0199f3a0-5c1e-7e62-8f0a-5b7a9d1c2e3f",
            UserId = "user-0001",
            CreatedAt = turn.CreatedAt,
            LastActivityAt = turn.CreatedAt,
            ExpiresAt = turn.CreatedAt + TimeSpan.FromHours(24),
            Key = SessionKey.New(),
            Kind = SessionKind.Session,
            Revision = new Revision(7, 1),
            Metadata = default,
            CreatedFrom = SessionOrigin.Query,
            TurnCount = 7,
            LastTurn = turn,
        };
        _result = new TurnResult(_session.Id, _session.Key, _session.UserId, turn, Replayed: false);
    }

    [Benchmark(Description = "parse a query")]
    public object? ParseQuery() => JsonSerializer.Deserialize(Query, ApiJson.Wire.QueryRequest);

    [Benchmark(Description = "write a session")]
    public int WriteSession()
    {
        Rewind();
        JsonSerializer.Serialize(_writer, new SessionResponse(_session), ApiJson.Wire.SessionResponse);
        return _output.WrittenCount;
    }

    [Benchmark(Description = "write the answer to a query")]
    public int WriteAnswer()
    {
        Rewind();
        JsonSerializer.Serialize(_writer, QueryResponse.From(_result), ApiJson.Wire.QueryResponse);
        return _output.WrittenCount;
    }

    private void Rewind()
    {
        _output.ResetWrittenCount();
        _writer.Reset();
    }
}
