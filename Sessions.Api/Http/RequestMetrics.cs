using System.Diagnostics.Metrics;
using Sessions.Api.Engine;

namespace Sessions.Api.Http;

/// <summary>What is counted about requests, beside ASP.NET Core's own metrics. docs/observability.md lists every instrument.</summary>
internal sealed class RequestMetrics
{
    private readonly Counter<long> _refused;

    public RequestMetrics(IMeterFactory meters) =>
        _refused = meters.Create(SessionMetrics.MeterName)
            .CreateCounter<long>("sessions.requests.refused", "{request}", "Requests that were refused for want of room.");

    public void Refused(string code) => _refused.Add(1, new KeyValuePair<string, object?>("sessions.reason", code));
}
