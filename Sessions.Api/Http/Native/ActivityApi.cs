using System.Globalization;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Http.Auth;

namespace Sessions.Api.Http.Native;

/// <summary><c>GET /activity</c>: what this process does, second by second.</summary>
internal static class ActivityApi
{
    /// <summary>Maps the endpoint.</summary>
    public static WebApplication MapActivity(this WebApplication app)
    {
        app.MapGet("/activity", Get)
            .WithTags("Operating")
            .WithName("getActivity")
            .WithSummary("What this process does, second by second")
            .WithDescription(
                "Recorded from the first question until nobody has asked for a minute; the first answer has no samples yet.")
            .ForAdmins()
            .Problems(StatusCodes.Status422UnprocessableEntity);
        return app;
    }

    private static JsonAnswer<ActivityResponse> Get(HttpRequest request, ServerActivity activity, CleanupSchedule cleanup)
    {
        var after = 0;
        if (request.Query.TryGetValue("after", out var text)
            && !int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out after))
        {
            throw new DomainException(Error.InvalidField("after", "must be the number of a sample"));
        }

        var report = activity.Read(after);
        return new(new ActivityResponse(
            report.RunningTurns, report.WaitingTurns, cleanup.LastCleanupAt,
            [.. report.Samples.Select(sample => new SampleResponse(
                sample.Number, sample.At, sample.RunningTurns, sample.WaitingTurns, sample.Created, sample.Removed, sample.Refused,
                LatencyResponse.From(sample.Turns), LatencyResponse.From(sample.Waits), LatencyResponse.From(sample.Store)))],
            [.. report.Agents.Select(agent => new NamedLatencyResponse(agent.Name, LatencyResponse.From(agent.Latency)))],
            [.. report.Operations.Select(operation => new NamedLatencyResponse(operation.Name, LatencyResponse.From(operation.Latency)))]));
    }
}

/// <summary>What this process does.</summary>
/// <param name="RunningTurns">Sessions with a turn that runs, now.</param>
/// <param name="WaitingTurns">Queries that wait for the turn before them, now.</param>
/// <param name="LastCleanupAt">When expired sessions were last removed, by this process.</param>
/// <param name="Samples">Second by second, oldest first; 300 at most.</param>
/// <param name="Agents">Turns by agent, since it is recorded.</param>
/// <param name="StoreOperations">Operations of the store by name, since it is recorded.</param>
internal sealed record ActivityResponse(
    int RunningTurns, int WaitingTurns, ApiTime? LastCleanupAt, IReadOnlyList<SampleResponse> Samples,
    IReadOnlyList<NamedLatencyResponse> Agents, IReadOnlyList<NamedLatencyResponse> StoreOperations);

/// <summary>What happened in one second.</summary>
/// <param name="Number">Its number.</param>
/// <param name="At">When it ended.</param>
/// <param name="RunningTurns">Sessions with a turn that ran.</param>
/// <param name="WaitingTurns">Queries that waited for the turn before them.</param>
/// <param name="SessionsCreated">Sessions that were created.</param>
/// <param name="SessionsRemoved">Sessions that expired or had to make room.</param>
/// <param name="RequestsRefused">Requests that were refused for want of room.</param>
/// <param name="Turns">Turns that ended.</param>
/// <param name="QueueWait">How long they had waited for the turn before them.</param>
/// <param name="Store">Operations of the store.</param>
internal sealed record SampleResponse(
    int Number, ApiTime At, int RunningTurns, int WaitingTurns, long SessionsCreated, long SessionsRemoved, long RequestsRefused,
    LatencyResponse Turns, LatencyResponse QueueWait, LatencyResponse Store);

/// <summary>How long things took, in seconds.</summary>
/// <param name="Count">How many there were.</param>
/// <param name="Failed">Of them, those that failed.</param>
/// <param name="P50">Half took no longer.</param>
/// <param name="P95">95 of 100 took no longer.</param>
/// <param name="Max">The slowest one.</param>
internal sealed record LatencyResponse(int Count, int Failed, double P50, double P95, double Max)
{
    /// <summary>Them as the API shows them.</summary>
    public static LatencyResponse From(Latency latency) =>
        new(latency.Count, latency.Failed, Math.Round(latency.Median, 6), Math.Round(latency.P95, 6), Math.Round(latency.Longest, 6));
}

/// <summary>The same, of one kind.</summary>
internal sealed record NamedLatencyResponse(string Name, LatencyResponse Latency);
