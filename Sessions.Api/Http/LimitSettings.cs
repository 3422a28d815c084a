using System.ComponentModel.DataAnnotations;

namespace Sessions.Api;

/// <summary>The <c>limits:</c> section of <c>config.yaml</c>.</summary>
internal sealed class LimitSettings
{
    /// <summary>The section's name.</summary>
    public const string Section = "limits";

    /// <summary>The largest request body.</summary>
    [Range(1024, 1 << 30)]
    public int RequestBodyBytes { get; set; } = 1 << 20;

    /// <summary>The longest query, as UTF-8.</summary>
    [Range(1, 1 << 30)]
    public int QueryBytes { get; set; } = 64 << 10;

    /// <summary>The longest response that an agent may give, as UTF-8. A longer one fails the turn.</summary>
    [Range(1, 1 << 30)]
    public int ResponseBytes { get; set; } = 1 << 20;

    /// <summary>How many keys of its own a client may keep in a session's metadata.</summary>
    [Range(0, 100_000)]
    public int MetadataKeys { get; set; } = 64;

    /// <summary>How large these may be, as JSON in UTF-8.</summary>
    [Range(2, 1 << 30)]
    public int MetadataBytes { get; set; } = 16 << 10;

    /// <summary>How many entries a page of a list has where none is asked for.</summary>
    [Range(1, 10_000)]
    public int PageSize { get; set; } = 20;

    /// <summary>How many entries a page may have.</summary>
    [Range(1, 10_000)]
    public int PageSizeMax { get; set; } = 100;

    /// <summary>How many queries may wait for the turn before them, per session.</summary>
    [Range(0, 100_000)]
    public int TurnQueue { get; set; } = 32;

    /// <summary>How long each of them may wait.</summary>
    [Range(0, 3600)]
    public double TurnWaitSeconds { get; set; } = 30;

    /// <summary>What a query finds while another one runs on its session, unless it says so itself.</summary>
    public OnBusy OnBusy { get; set; } = OnBusy.Enqueue;
}

/// <summary>What happens to a query while another one runs on its session.</summary>
internal enum OnBusy
{
    /// <summary>It waits, within <see cref="LimitSettings.TurnQueue"/> and <see cref="LimitSettings.TurnWaitSeconds"/>.</summary>
    Enqueue,

    /// <summary>It is refused at once.</summary>
    Reject,
}
