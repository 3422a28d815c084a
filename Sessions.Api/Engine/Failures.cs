using System.Text;

namespace Sessions.Api.Engine;

/// <summary>Unexpected failures as the log may have them.</summary>
internal static class Failures
{
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
}
