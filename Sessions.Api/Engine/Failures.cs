using System.Text;
using Sessions.Api.Domain;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>Failures of what the server is made of, as clients are told of them and as the log may have them.</summary>
internal static partial class Failures
{
    // Nobody mends it sooner.
    private static readonly TimeSpan DamageRetry = TimeSpan.FromMinutes(1);

    /// <summary>
    /// What a client is told of a failure, however it is answered: plainly, or at the end of a stream. An outage that nobody has heard of
    /// yet is logged.
    /// </summary>
    /// <returns><see langword="null"/>: it is none of those that are expected.</returns>
    public static Error? ErrorOf(Exception exception, ILogger logger)
    {
        switch (exception)
        {
            case DomainException known:
                return known.Error;
            case StoredDataException damaged:
                return new Error("storage_damaged", damaged.Message) { RetryAfter = DamageRetry };
            case StoreUnavailableException unavailable:
                if (!unavailable.WasKnown)
                {
                    Log.StoreUnavailable(logger, unavailable.Message, unavailable.InnerException);
                }

                return new Error("storage_unavailable", unavailable.Message) { RetryAfter = unavailable.RetryAfter };
            default:
                return null;
        }
    }

    /// <summary>What happened where, without the messages: those may quote what a user wrote.</summary>
    public static string Describe(Exception exception)
    {
        var text = new StringBuilder();
        for (var e = exception; e is not null; e = e.InnerException)
        {
            text.Append(text.Length == 0 ? "" : " caused by ").Append(e.GetType().FullName).AppendLine().Append(e.StackTrace);
        }

        return text.ToString();
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 1, Level = LogLevel.Error, Message = "The store is unavailable: {Reason}")]
        public static partial void StoreUnavailable(ILogger logger, string reason, Exception? exception);
    }
}
