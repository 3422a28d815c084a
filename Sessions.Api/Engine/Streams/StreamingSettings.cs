using System.ComponentModel.DataAnnotations;

namespace Sessions.Api.Engine.Streams;

/// <summary>The <c>streaming:</c> section of <c>config.yaml</c>.</summary>
internal sealed class StreamingSettings
{
    /// <summary>The section's name.</summary>
    public const string Section = "streaming";

    /// <summary>What becomes of a turn whose client goes away in the middle of its stream.</summary>
    public OnDisconnect OnDisconnect { get; set; } = OnDisconnect.Finish;

    /// <summary>How long a stream that has ended can still be picked up again.</summary>
    [Range(0, 3600)]
    public double ResumeSeconds { get; set; } = 60;

    /// <summary>After how long a silence a comment is sent, so that nothing on the way takes the connection for dead.</summary>
    [Range(0.1, 3600)]
    public double HeartbeatSeconds { get; set; } = 15;
}

/// <summary>What becomes of a turn whose client goes away in the middle of its stream.</summary>
internal enum OnDisconnect
{
    /// <summary>It is finished and committed: the answer is in the history.</summary>
    Finish,

    /// <summary>It is cancelled, and leaves no trace.</summary>
    Cancel,
}
