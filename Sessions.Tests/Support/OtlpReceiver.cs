using System.Buffers.Binary;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Sessions.Tests;

/// <summary>A collector that takes OTLP over HTTP, and understands as much of it as the tests ask about.</summary>
internal sealed class OtlpReceiver : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly List<OtlpSpan> _spans = [];
    private readonly List<byte[]> _bodies = [];
    private readonly Dictionary<(string Service, string Metric), double> _metrics = [];

    private OtlpReceiver(WebApplication app) => _app = app;

    public IReadOnlyList<OtlpSpan> Spans
    {
        get
        {
            lock (_app)
            {
                return [.. _spans];
            }
        }
    }

    /// <summary>The settings that make a process report here, and soon.</summary>
    public (string Key, string Value)[] Environment =>
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", _app.Urls.Single()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100"),

        // What is given up is not sent again, and a busy machine is no collector that is away.
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000"),
    ];

    public static async Task<OtlpReceiver> StartAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        var app = builder.Build();
        var receiver = new OtlpReceiver(app);
        app.MapPost("/v1/traces", http => receiver.ReadAsync(http, receiver.AddSpans));
        app.MapPost("/v1/metrics", http => receiver.ReadAsync(http, receiver.AddMetrics));
        app.MapPost("/v1/logs", http => receiver.ReadAsync(http, _ => { }));
        await app.StartAsync(TestContext.Current.CancellationToken);
        return receiver;
    }

    /// <summary>The last value of a counter or gauge, or how often a histogram recorded; over all attributes.</summary>
    public double? Metric(string service, string name)
    {
        lock (_app)
        {
            return _metrics.TryGetValue((service, name), out var value) ? value : null;
        }
    }

    /// <summary>Whether this text was anywhere in what arrived: spans, metrics or logs.</summary>
    public bool Received(string text)
    {
        lock (_app)
        {
            return _bodies.Any(body => body.AsSpan().IndexOf(Encoding.UTF8.GetBytes(text)) >= 0);
        }
    }

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private async Task ReadAsync(HttpContext http, Action<Protobuf> add)
    {
        using var body = new MemoryStream();
        await http.Request.Body.CopyToAsync(body, CancellationToken.None);
        lock (_app)
        {
            _bodies.Add(body.ToArray());
        }

        add(new Protobuf(body.ToArray()));
    }

    // The numbers are those of opentelemetry-proto: ExportTraceServiceRequest, ResourceSpans, ScopeSpans, Span.
    private void AddSpans(Protobuf request)
    {
        foreach (var resource in request.Messages(1))
        {
            foreach (var span in resource.Messages(2).SelectMany(scope => scope.Messages(2)))
            {
                lock (_app)
                {
                    _spans.Add(new OtlpSpan(Service(resource), span.Hex(1), span.Hex(2), span.Hex(4), span.Text(5), Attributes(span, 9)));
                }
            }
        }
    }

    // ExportMetricsServiceRequest, ResourceMetrics, ScopeMetrics, Metric with a gauge (5), a sum (7) or a histogram (9).
    private void AddMetrics(Protobuf request)
    {
        foreach (var resource in request.Messages(1))
        {
            foreach (var metric in resource.Messages(2).SelectMany(scope => scope.Messages(2)))
            {
                var value = metric.Messages(5).Concat(metric.Messages(7)).SelectMany(data => data.Messages(1))
                    .Sum(point => point.Double(4) ?? point.Long(6) ?? 0)
                    + metric.Messages(9).SelectMany(data => data.Messages(1)).Sum(point => point.Long(4) ?? 0);
                lock (_app)
                {
                    _metrics[(Service(resource), metric.Text(1))] = value;
                }
            }
        }
    }

    private static string Service(Protobuf resource) => Attributes(resource.Messages(1).Single(), 1)["service.name"];

    private static Dictionary<string, string> Attributes(Protobuf message, int field) =>
        message.Messages(field).ToDictionary(attribute => attribute.Text(1), attribute => attribute.Messages(2).Single().Text(1));

    /// <summary>A message in the protobuf wire format.</summary>
    private sealed class Protobuf
    {
        private readonly List<(int Field, byte[] Bytes)> _fields = [];

        public Protobuf(ReadOnlySpan<byte> bytes)
        {
            while (bytes.Length > 0)
            {
                var tag = Varint(ref bytes);
                var length = (int)(tag & 7) switch
                {
                    0 => 0,
                    1 => 8,
                    2 => (int)Varint(ref bytes),
                    5 => 4,
                    var other => throw new InvalidDataException($"Wire type {other}."),
                };
                if ((tag & 7) == 0)
                {
                    Varint(ref bytes);
                }

                _fields.Add(((int)(tag >> 3), bytes[..length].ToArray()));
                bytes = bytes[length..];
            }
        }

        public IEnumerable<Protobuf> Messages(int field) => All(field).Select(bytes => new Protobuf(bytes));

        public string Text(int field) => Encoding.UTF8.GetString(All(field).FirstOrDefault([]));

        public string Hex(int field) => Convert.ToHexStringLower(All(field).FirstOrDefault([]));

        public double? Double(int field) =>
            All(field).FirstOrDefault() is { } bytes ? BinaryPrimitives.ReadDoubleLittleEndian(bytes) : null;

        public long? Long(int field) => All(field).FirstOrDefault() is { } bytes ? BinaryPrimitives.ReadInt64LittleEndian(bytes) : null;

        private IEnumerable<byte[]> All(int field) => _fields.Where(entry => entry.Field == field).Select(entry => entry.Bytes);

        private static ulong Varint(ref ReadOnlySpan<byte> bytes)
        {
            ulong value = 0;
            for (var shift = 0; ; shift += 7)
            {
                var next = bytes[0];
                bytes = bytes[1..];
                value |= (ulong)(next & 0x7f) << shift;
                if (next < 0x80)
                {
                    return value;
                }
            }
        }
    }
}

/// <summary>A span that arrived.</summary>
internal sealed record OtlpSpan(
    string Service, string TraceId, string Id, string ParentId, string Name, IReadOnlyDictionary<string, string> Attributes);
