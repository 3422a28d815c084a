using System.ComponentModel.DataAnnotations;

namespace Sessions.Api.Engine;

/// <summary>The <c>responses:</c> section of <c>config.yaml</c>: stored responses that belong to no conversation.</summary>
internal sealed class ResponseSettings
{
    /// <summary>The section's name.</summary>
    public const string Section = "responses";

    /// <summary>For how many hours a chain of responses is kept after its last one.</summary>
    [Range(1e-5, 87600)]
    public double TimeoutHours { get; set; } = 720;

    /// <summary><see cref="TimeoutHours"/> as a time span.</summary>
    public TimeSpan Timeout => TimeSpan.FromHours(TimeoutHours);
}
