using System.ComponentModel.DataAnnotations;

namespace Sessions.Api.Engine;

/// <summary>The <c>limits:</c> section of <c>config.yaml</c>.</summary>
internal sealed class LimitSettings : IValidatableObject
{
    /// <summary>The section's name.</summary>
    public const string Section = "limits";

    /// <summary>The largest request body.</summary>
    [Range(1024, 1 << 30)]
    public int RequestBodyBytes { get; set; } = 1 << 20;

    /// <summary>The largest request body where content is sent: items, images, files.</summary>
    [Range(1024, 1 << 30)]
    public int ContentBytes { get; set; } = 20 << 20;

    /// <summary>The longest query, as UTF-8.</summary>
    [Range(1, 1 << 30)]
    public int QueryBytes { get; set; } = 64 << 10;

    /// <summary>The longest response that an agent may give, as UTF-8. A longer one fails the turn.</summary>
    [Range(1, 1 << 30)]
    public int ResponseBytes { get; set; } = 1 << 20;

    /// <summary>How many bytes of a history an agent may be given, whatever it is configured to.</summary>
    [Range(1024, 1 << 30)]
    public int HistoryBytes { get; set; } = 4 << 20;

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

    /// <summary>How many bytes of turns or sessions a page may have: it then ends early, with more to come. It holds at least one entry,
    /// however large.</summary>
    [Range(1024, 1 << 30)]
    public int PageBytes { get; set; } = 1 << 20;

    /// <summary>How many bytes the memory store may hold in all. 0: any number.</summary>
    [Range(0, 1L << 50)]
    public long StoredBytes { get; set; } = 256 << 20;

    /// <summary>How many bytes of stored responses without a conversation one user may have; past it the oldest go. 0: any
    /// number.</summary>
    [Range(0, 1L << 50)]
    public long ResponsesBytesPerUser { get; set; } = 256 << 20;

    /// <summary>How many bytes of sessions and responses may be bound to nobody, together. 0: any number.</summary>
    [Range(0, 1L << 50)]
    public long UnownedBytes { get; set; } = 4L << 30;

    /// <summary>How many queries may wait for the turn before them, per session.</summary>
    [Range(0, 100_000)]
    public int TurnQueue { get; set; } = 32;

    /// <summary>How long each of them may wait.</summary>
    [Range(0, 3600)]
    public double TurnWaitSeconds { get; set; } = 30;

    /// <summary>How many requests may be in progress at a time, those that wait for an agent included; as many streamed turns may run
    /// whose clients have gone.</summary>
    [Range(1, 1_000_000)]
    public int ConcurrentRequests { get; set; } = 5000;

    /// <summary>How many bytes the bodies of the requests in progress may have together.</summary>
    [Range(1 << 20, 1L << 40)]
    public long RequestBodiesBytes { get; set; } = 256 << 20;

    /// <summary>How many of them one caller's requests may have.</summary>
    [Range(1 << 20, 1L << 40)]
    public long RequestBodiesBytesPerCaller { get; set; } = 128 << 20;

    /// <summary>How many connections may be open.</summary>
    [Range(1, 10_000_000)]
    public int Connections { get; set; } = 20_000;

    /// <summary>How long a client may take to send the headers of a request, and again to send its body.</summary>
    [Range(0.1, 3600)]
    public double ReceiveSeconds { get; set; } = 30;

    /// <summary>How long what is in progress may take to finish when the server is told to stop.</summary>
    [Range(0, 3600)]
    public double ShutdownSeconds { get; set; } = 25;

    /// <summary>What a query finds while another one runs on its session, unless it says so itself.</summary>
    public OnBusy OnBusy { get; set; } = OnBusy.Enqueue;

    /// <inheritdoc/>
    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext)
    {
        // A body that may be sent must fit into what bodies may have together.
        (string Name, long Bytes)[] rooms =
            [(nameof(RequestBodiesBytes), RequestBodiesBytes), (nameof(RequestBodiesBytesPerCaller), RequestBodiesBytesPerCaller)];
        (string Name, string Key, int Bytes)[] bodies =
        [
            (nameof(RequestBodyBytes), "limits.request_body_bytes", RequestBodyBytes),
            (nameof(ContentBytes), "limits.content_bytes", ContentBytes),
        ];
        return from room in rooms
               from body in bodies
               where room.Bytes < body.Bytes
               select new ValidationResult($"must be at least {body.Key}, {body.Bytes}", [room.Name, body.Name]);
    }
}
