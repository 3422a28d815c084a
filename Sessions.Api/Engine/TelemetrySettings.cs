namespace Sessions.Api.Engine;

/// <summary>The <c>telemetry:</c> section of <c>config.yaml</c>.</summary>
internal sealed class TelemetrySettings
{
    /// <summary>The section's name.</summary>
    public const string Section = "telemetry";

    /// <summary>Whether spans hold what users and agents say to each other, and logs what an agent's provider says about a failure, which
    /// may quote it.</summary>
    public bool IncludeContent { get; set; }
}
