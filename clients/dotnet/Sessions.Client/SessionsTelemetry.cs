using System.Diagnostics;

namespace Sessions.Client;

/// <summary>The client's traces.</summary>
public static class SessionsTelemetry
{
    /// <summary>
    /// The name of the client's <see cref="ActivitySource"/>. <c>AddSessionsClient</c> adds it to the application's tracing; elsewhere:
    /// <c>tracing.AddSource(SessionsTelemetry.ActivitySourceName)</c>.
    /// </summary>
    public const string ActivitySourceName = "Sessions.Client";

    internal static readonly ActivitySource Source = new(ActivitySourceName);
}
