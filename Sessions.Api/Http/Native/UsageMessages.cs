using System.Globalization;
using Sessions.Api.Domain;
using Sessions.Api.Engine;

namespace Sessions.Api.Http.Native;

/// <summary>A user's turns and tokens by agent and day.</summary>
/// <param name="UserId">Whose.</param>
/// <param name="From">The first day, in UTC.</param>
/// <param name="To">The last day: today.</param>
/// <param name="IsComplete">Whether everything of these days was counted; else the newest part, or what can be read.</param>
/// <param name="Sessions">How many sessions were looked at.</param>
/// <param name="Turns">How many turns were counted.</param>
/// <param name="Days">Days with turns, oldest first, by agent.</param>
internal sealed record UsageAnswer(
    string UserId, string From, string To, bool IsComplete, int Sessions, int Turns, IReadOnlyList<UsageDayAnswer> Days)
{
    /// <summary>It, as the API shows it.</summary>
    public static UsageAnswer Of(string userId, DateOnly today, UsageCount count) => new(
        userId, Date(count.From), Date(today), count.IsComplete, count.Sessions, count.Turns,
        [.. count.Days.Select(day => new UsageDayAnswer(
            Date(day.Key.Day), day.Key.Agent, day.Usage.Turns, day.Usage.Incomplete, day.Usage.InputTokens, day.Usage.OutputTokens,
            day.Usage.Uncounted, day.Usage.ExecutionTime))]);

    private static string Date(DateOnly day) => day.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture);
}

/// <summary>One agent's turns of one day.</summary>
/// <param name="Date">The day, in UTC.</param>
/// <param name="AgentType">The agent.</param>
/// <param name="Turns">How many turns.</param>
/// <param name="Incomplete">Of them, those whose answer stopped short.</param>
/// <param name="InputTokens">Tokens that the model read.</param>
/// <param name="OutputTokens">Tokens that the model wrote.</param>
/// <param name="TurnsWithoutTokens">Turns whose provider reported no tokens; they are in none of the sums.</param>
/// <param name="ExecutionTime">How long the agent took for them, in seconds.</param>
internal sealed record UsageDayAnswer(
    string Date, string AgentType, int Turns, int Incomplete, long InputTokens, long OutputTokens, int TurnsWithoutTokens,
    ApiSeconds ExecutionTime);
